//! The keys of `--files-from`: read whole, because they are looked up in any order.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use distcp::console::args::FilesFromArgs;
use distcp::error::{Failure, Result};
use manifest::ObjectKey;

/// The most that a list may hold, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The keys that were listed; none without the option.
pub async fn read(list: &FilesFromArgs, cwd: &Path) -> Result<Vec<ObjectKey>> {
    let Some(path) = list.files_from.clone() else { return Ok(Vec::new()) };
    let (path, end) = (cwd_or_stdin(&path, cwd), if list.nul { b'\0' } else { b'\n' });
    let text = tokio::task::spawn_blocking(move || read_all(path.as_deref())).await??;
    Ok(keys(&text, end))
}

fn cwd_or_stdin(path: &Path, cwd: &Path) -> Option<std::path::PathBuf> {
    (path != Path::new("-")).then(|| cwd.join(path))
}

fn read_all(path: Option<&Path>) -> Result<Vec<u8>> {
    let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    let failed = |error: io::Error| Failure::usage(format!("cannot read the list of keys from {name}: {error}"));
    let mut text = Vec::new();
    let read = match path {
        Some(path) => File::open(path).map_err(failed)?.take(MAX_LIST_BYTES + 1).read_to_end(&mut text),
        None => io::stdin().lock().take(MAX_LIST_BYTES + 1).read_to_end(&mut text),
    };
    read.map_err(failed)?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(Failure::usage(format!("the list of keys in {name} is larger than {} MiB", MAX_LIST_BYTES >> 20))
            .hint("split it and copy in several runs"));
    }
    Ok(text)
}

/// Splits at `end`; empty lines are no keys, and `\r\n` ends a line as `\n` does.
fn keys(text: &[u8], end: u8) -> Vec<ObjectKey> {
    let lines = text.split(|byte| *byte == end).map(|line| match end {
        b'\n' => line.strip_suffix(b"\r").unwrap_or(line),
        _ => line,
    });
    lines.filter(|line| !line.is_empty()).map(|line| line.to_vec().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_line_ends_or_nul() {
        type Row = (&'static [u8], u8, &'static [&'static [u8]]);
        let table: [Row; 5] = [
            (b"", b'\n', &[]),
            (b"b\na\n", b'\n', &[b"b", b"a"]),
            (b"a\r\n\r\nb ", b'\n', &[b"a", b"b "]),
            (b"a\nb\0c\xff\0", b'\0', &[b"a\nb", b"c\xff"]),
            (b"a\r\0", b'\0', &[b"a\r"]),
        ];
        for (text, end, expected) in table {
            let expected: Vec<ObjectKey> = expected.iter().map(|key| key.to_vec().into()).collect();
            assert_eq!(keys(text, end), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[tokio::test]
    async fn a_list_that_is_not_there_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        let list = FilesFromArgs { files_from: Some("missing".into()), ..FilesFromArgs::default() };
        assert_eq!(read(&list, folder.path()).await.unwrap_err().code, distcp::exit::ExitCode::Usage);
        std::fs::write(folder.path().join("missing"), "x\n").unwrap();
        assert_eq!(read(&list, folder.path()).await.unwrap(), [ObjectKey::from("x")]);
    }
}
