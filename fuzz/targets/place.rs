//! Fuzzes `understudy_fuzz::place`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::place(data));
