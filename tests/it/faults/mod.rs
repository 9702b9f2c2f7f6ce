//! What a run leaves when it is killed, when disks are full, files change below it, and streams are closed.
#![cfg(target_os = "linux")]

mod disks;
mod durable;
mod interrupted;
mod resume;
mod special;
mod streams;
