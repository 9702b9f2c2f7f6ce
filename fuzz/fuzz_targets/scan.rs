#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ckpt2st_fuzz::scan(data));
