//! Fuzzes `understudy_fuzz::tjson`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::tjson(data));
