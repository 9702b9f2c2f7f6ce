//! Whatever a file asks for: one sentence, no output, little memory, and an end.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::floods::{self, Flood};
use crate::common::{self, hostile_zips, repetitions};

/// What the program may take of the machine's memory, in KiB.
const MEMORY: u64 = 256 * 1024;
/// A run that takes longer has no end; the bound for a release build on a machine that does nothing else is 5 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run took and said.
struct Run {
    code: Option<i32>,
    said: String,
    /// The most memory that it had, in KiB, seen within a millisecond of its end.
    memory: u64,
    time: Duration,
}

/// Converts what lies at `input`, in a folder of its own.
fn convert(input: &Path) -> Run {
    let mut command = common::ckpt2st();
    command
        .args([input.as_os_str(), "-o".as_ref()])
        .arg(input.with_file_name("out.safetensors"))
        // What takes a second there takes a minute here.
        .args(cfg!(debug_assertions).then_some("--limit=visits=1000000"));
    run(command, input)
}

fn scan(input: &Path) -> Run {
    let mut command = common::ckpt2st();
    command.arg("scan").arg(input);
    run(command, input)
}

fn run(mut command: Command, input: &Path) -> Run {
    let start = Instant::now();
    let mut child = command
        .env("TMPDIR", input.parent().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    let code = loop {
        // Until the name is the program's, the memory is that of this process, which it was started
        // from.
        let peak = fs::read_to_string(&status).unwrap_or_default();
        let peak = peak.strip_prefix("Name:\tckpt2st\n").unwrap_or_default();
        let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok());
        memory = memory.max(peak.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if start.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    Run {
        code,
        said,
        memory,
        time: start.elapsed(),
    }
}

/// Runs every flood and says what is wrong with each; prints what each took.
fn check(floods: &[Flood]) {
    let mut wrong = Vec::new();
    for flood in floods {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.pt");
        (flood.write)(&input);
        for (verb, run) in [("convert", convert(&input)), ("scan", scan(&input))] {
            let left = fs::read_dir(folder.path()).unwrap().count();
            let line = format!(
                "{verb:<7} {:<50} {:?} {:>6.2} s {:>4} MiB  {}",
                flood.what,
                run.code,
                run.time.as_secs_f64(),
                run.memory / 1024,
                run.said.trim_end().chars().take(300).collect::<String>()
            );
            println!("{line}");
            let is_told = match verb {
                "convert" => matches!(run.code, Some(1 | 3)) && run.said.lines().count() == 1,
                // Values of any number are clean, as long as they call nothing.
                _ => matches!(run.code, Some(0 | 1 | 3 | 4)),
            };
            if !is_told || left != 1 || run.memory > MEMORY || run.said.len() > 2000 {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn floods_of_opcodes_values_and_records_are_refused_within_the_bounds() {
    check(&floods::all(1 << 20));
}

#[test]
fn hostile_archives_are_refused_within_the_bounds() {
    let cases = hostile_zips::all().into_iter().map(|case| Flood {
        what: case.what,
        write: Box::new(move |path| fs::write(path, &case.file).unwrap()),
    });
    check(&cases.collect::<Vec<_>>());
}

#[test]
fn what_is_listed_named_or_quoted_again_and_again_is_refused_within_the_bounds() {
    check(&repetitions::all());
}

#[test]
fn floods_of_100_megabytes_are_refused_within_the_bounds() {
    check(&floods::all(100 << 20));
}
