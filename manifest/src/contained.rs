//! Calls into Parquet's reader, which asserts what a file's metadata must be: here such a panic becomes the file's error, so
//! that a damaged file is that file's trouble and not the program's.
//!
//! Nothing that a contained call had in hand is used after it panicked.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside of [`contained`]: a panic there is no news, and its hook has nothing to print.
pub fn is_active() -> bool {
    ACTIVE.get()
}

/// What `call` returns, or the words of its panic.
pub fn contained<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let before = ACTIVE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    ACTIVE.set(before);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("its metadata is impossible ({})", words.unwrap_or("no reason"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_nothing_else_is() {
        assert_eq!(contained(|| 5), Ok(5));
        assert_eq!(contained::<()>(|| panic!("of {}", "old")), Err("its metadata is impossible (of old)".to_owned()));
        assert!(!is_active());
    }
}
