//! Fuzzes `understudy_fuzz::part`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::part(data));
