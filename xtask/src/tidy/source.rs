//! What a file may hold (pure: text in, findings out).

use super::Finding;

/// Past this a file hides a second module.
const MAX_LINES: usize = 800;

// Put together here, so that this file does not find itself.
const PRINTS: [&str; 4] =
    [concat!("print", "ln!("), concat!("eprint", "ln!("), concat!("pri", "nt!("), concat!("epri", "nt!(")];
const LEFTOVERS: [(&str, &str); 4] = [
    (concat!("#[ig", "nore"), "no test is switched off: mend it or delete it"),
    (concat!("ig", "nore ="), "no test is switched off: mend it or delete it"),
    (concat!("to", "do!("), "finish it"),
    (concat!("unimple", "mented!("), "finish it"),
];
const MACHINE_PATHS: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// The findings in one text file; `path` is from the root, with `/`.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let finding = |line, what: String| Finding { path: path.to_owned(), line, what };
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(place) = MACHINE_PATHS.iter().find(|place| names_path(line, place)) {
            findings.push(finding(Some(number + 1), format!("a path of some machine: {place}")));
        }
    }
    if !path.ends_with(".rs") {
        return findings;
    }
    // What `x/tests.rs` is for, its name says.
    if !text.starts_with("//!") && !path.ends_with("/tests.rs") {
        findings.push(finding(Some(1), "the first line is `//!`: the module's job in a sentence".to_owned()));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings
            .push(finding(None, format!("{lines} lines, more than {MAX_LINES}: look for the second module inside")));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if !may_print(path) && PRINTS.iter().any(|print| calls(code, print)) {
            let what = "libraries do not print: return a value, or move it to bin/ or console/";
            findings.push(finding(Some(number + 1), what.to_owned()));
        }
        if let Some((_, what)) = LEFTOVERS.iter().find(|(leftover, _)| leftover_in(code, leftover)) {
            findings.push(finding(Some(number + 1), (*what).to_owned()));
        }
    }
    findings
}

fn may_print(path: &str) -> bool {
    let mut parts = path.split('/');
    let of_crate = parts.next().unwrap_or("");
    ["xtask", "benches", "tests"].contains(&of_crate)
        || parts.any(|part| ["bin", "console", "console.rs"].contains(&part))
}

/// `name!(` as a word of its own: a longer name that ends so is another macro.
fn calls(code: &str, call: &str) -> bool {
    code.match_indices(call).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn leftover_in(code: &str, leftover: &str) -> bool {
    match leftover.strip_suffix(" =") {
        // `#[cfg_attr(x, ignore = "why")]`; a variable of that name is no attribute.
        Some(_) => code.starts_with("#[") && code.contains(leftover),
        None => calls(code, leftover),
    }
}

/// Whether an absolute path below `place` is named: `s3://b/x/` and `a/x/` are not absolute paths.
fn names_path(line: &str, place: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_-.*/}>~$".contains(c);
    line.match_indices(place).any(|(at, _)| !line[..at].ends_with(is_part) || line[..at].ends_with("file://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, body: &str) -> usize {
        check(path, &format!("//! Head.\n{body}\n")).len()
    }

    #[test]
    fn prints_are_for_binaries_and_the_console() {
        for print in PRINTS {
            let body = format!("    {print}\"x\");");
            assert_eq!(count("distcp/src/copy.rs", &body), 1, "{body}");
            assert_eq!(count("distcp/src/copy.rs", &format!("// {print}\"x\")")), 0);
            for path in
                ["distcp/src/bin/distcp/main.rs", "distcp/src/console/exit.rs", "xtask/src/x.rs", "tests/it/x.rs"]
            {
                assert_eq!(count(path, &body), 0, "{path}");
            }
        }
        assert_eq!(count("distcp/src/copy.rs", "my_println!(x)"), 0);
    }

    #[test]
    fn leftovers_are_found_everywhere() {
        let bodies = [
            format!("{}]", LEFTOVERS[0].0),
            format!("{} = \"slow\"]", LEFTOVERS[0].0),
            format!("#[cfg_attr(windows, {} \"why\")]", LEFTOVERS[1].0),
            format!("    {})", LEFTOVERS[2].0),
        ];
        for body in bodies {
            assert_eq!(count("tests/it/x.rs", &body), 1, "{body}");
        }
        assert_eq!(count("distcp/src/x.rs", "let ignore = true;"), 0);
    }

    #[test]
    fn every_module_has_a_head_and_an_end() {
        assert_eq!(check("a/src/x.rs", "#![allow(x)]\n//! Late.\n").len(), 1);
        assert_eq!(check("a/src/x/tests.rs", "use super::*;\n").len(), 0);
        assert_eq!(count("a/src/x.rs", &"x\n".repeat(MAX_LINES - 2)), 0);
        assert_eq!(count("a/src/x.rs", &"x\n".repeat(MAX_LINES)), 1);
        assert_eq!(check("README.md", &"x\n".repeat(MAX_LINES + 1)).len(), 0);
    }

    #[test]
    fn paths_of_a_machine_are_found_in_any_file() {
        for place in MACHINE_PATHS {
            for line in
                [format!("cd {place}x"), format!("\"{place}x\""), format!("file://{place}x"), format!("{place}x")]
            {
                assert_eq!(check("notes.md", &line).len(), 1, "{line}");
            }
            for line in [format!("s3://bucket{place}x"), format!("a{place}"), format!("$HOME{place}x")] {
                assert_eq!(check("notes.md", &line).len(), 0, "{line}");
            }
        }
    }
}
