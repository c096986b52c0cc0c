//! PostgreSQL's password file: lines `host:port:database:user:password`, the first that matches counts.
//!
//! As libpq reads it (PostgreSQL documentation, "The Password File"): `*` matches anything, `\:` and `\\` are escapes, `#`
//! begins a comment, and a file that others may read is not used.

use super::{Login, small_file};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The file's text; `None` if it is not there, cannot be read, or others may read it.
pub(super) fn read(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        return None;
    }
    String::from_utf8(small_file(path).ok()?).ok()
}

/// The password of this login.
pub(super) fn find(text: &str, login: &Login) -> Option<String> {
    let wanted = [login.host.as_str(), &login.port.to_string(), &login.database, &login.user].map(str::to_owned);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|mut fields| {
        let password = (fields.len() == 5).then(|| fields.pop()).flatten()?;
        let fits =
            fields.iter().zip(&wanted).all(|((field, plain), wanted)| (*plain && field == "*") || field == wanted);
        fits.then_some(password.0)
    })
}

/// The fields of a line, unescaped, each with whether nothing in it was escaped.
fn fields(line: &str) -> Vec<(String, bool)> {
    let mut fields = vec![(String::new(), true)];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            // A password may hold colons only as escapes, like the rest.
            ':' => fields.push((String::new(), true)),
            '\\' => {
                fields[last].0.extend(characters.next());
                fields[last].1 = false;
            }
            _ => fields[last].0.push(character),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_counts() {
        let login = |user: &str| Login {
            is_postgres: true,
            host: "db".to_owned(),
            port: 5432,
            user: user.to_owned(),
            database: "meta".to_owned(),
            has_password: false,
        };
        let text = "# c\nother:*:*:*:no\ndb:5433:*:*:no\nshort:line\ndb:5432:meta:hive:a\\:b\\\\c\n*:*:*:*:any\n";
        assert_eq!(find(text, &login("hive")).as_deref(), Some("a:b\\c"));
        assert_eq!(find(text, &login("etl")).as_deref(), Some("any"));
        assert_eq!(find("db:5432:meta:\\*:x", &login("etl")), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "*:*:*:*:p").unwrap();
        let mode = |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert_eq!(read(file.path()), None);
        mode(0o600);
        assert!(read(file.path()).is_some());
    }
}
