//! The text of a view when databases have other names.
//!
//! Pure, and no parser of SQL: tokens are enough to find names of tables. A name is renamed where a table is named (after
//! FROM and JOIN, and after a comma between them), and as the first of three parts where its first two were found so;
//! strings, comments, aliases and columns are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A piece of the text that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// An identifier or keyword, without its quotes, in lower case; and whether it was quoted.
    Word(String, bool),
    /// Any other character that is no blank.
    Sign(char),
}

/// Words that end the list of tables after FROM.
const AFTER_TABLES: [&str; 13] = [
    "where",
    "group",
    "having",
    "order",
    "sort",
    "cluster",
    "distribute",
    "limit",
    "union",
    "intersect",
    "except",
    "minus",
    "window",
];

/// The text with databases renamed; keys and values of `rename` in lower case.
pub(super) fn rename_databases(text: &str, rename: &BTreeMap<String, String>) -> String {
    if rename.is_empty() {
        return text.to_owned();
    }
    let tokens = tokens(text);
    let chains = chains(&tokens);
    let named: BTreeSet<(&str, &str)> = chains
        .iter()
        .filter(|chain| chain.names_table && chain.words.len() >= 2)
        .map(|chain| {
            let last = chain.words.len();
            (word(&tokens, chain.words[last - 2]), word(&tokens, chain.words[last - 1]))
        })
        .collect();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for chain in &chains {
        let at = match (chain.names_table, chain.words.len()) {
            // database.table, or catalog.database.table
            (true, 2) => chain.words[0],
            (true, 3) => chain.words[1],
            // database.table.column
            (false, 3..) if named.contains(&(word(&tokens, chain.words[0]), word(&tokens, chain.words[1]))) => {
                chain.words[0]
            }
            _ => continue,
        };
        if let Some(renamed) = rename.get(word(&tokens, at)) {
            let quoted = matches!(tokens[at].0, Token::Word(_, true));
            let written = if quoted { format!("`{renamed}`") } else { renamed.clone() };
            edits.push((tokens[at].1.clone(), written));
        }
    }
    let mut renamed = text.to_owned();
    for (range, written) in edits.into_iter().rev() {
        renamed.replace_range(range, &written);
    }
    renamed
}

/// Words that dots join, by their places among the tokens.
struct Chain {
    words: Vec<usize>,
    names_table: bool,
}

fn word(tokens: &[(Token, Range<usize>)], at: usize) -> &str {
    match &tokens[at].0 {
        Token::Word(word, _) => word,
        Token::Sign(_) => "",
    }
}

fn is_sign(tokens: &[(Token, Range<usize>)], at: usize, sign: char) -> bool {
    tokens.get(at).is_some_and(|(token, _)| *token == Token::Sign(sign))
}

fn chains(tokens: &[(Token, Range<usize>)]) -> Vec<Chain> {
    let mut chains = Vec::new();
    // For each open bracket: whether we are between FROM and what ends it.
    let mut tables = vec![false];
    let mut expects_table = false;
    let mut at = 0;
    while at < tokens.len() {
        let in_tables = tables.last().copied().unwrap_or_default();
        match &tokens[at].0 {
            Token::Sign('(') => {
                tables.push(in_tables && expects_table);
                at += 1;
            }
            Token::Sign(sign) => {
                if *sign == ')' && tables.len() > 1 {
                    tables.pop();
                }
                expects_table = *sign == ',' && tables.last().copied().unwrap_or_default();
                at += 1;
            }
            Token::Word(keyword, false) if matches!(keyword.as_str(), "from" | "join") => {
                if let Some(last) = tables.last_mut() {
                    *last = true;
                }
                expects_table = true;
                at += 1;
            }
            Token::Word(keyword, false) if AFTER_TABLES.contains(&keyword.as_str()) || keyword == "select" => {
                if let Some(last) = tables.last_mut() {
                    *last = false;
                }
                expects_table = false;
                at += 1;
            }
            Token::Word(..) => {
                let mut words = vec![at];
                at += 1;
                while is_sign(tokens, at, '.') && matches!(tokens.get(at + 1), Some((Token::Word(..), _))) {
                    words.push(at + 1);
                    at += 2;
                }
                chains.push(Chain { words, names_table: expects_table });
                expects_table = false;
            }
        }
    }
    chains
}

/// Tokens with their places; strings, numbers' digits and comments are left out or are signs.
fn tokens(text: &str) -> Vec<(Token, Range<usize>)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        let length = match first {
            '\'' | '"' => string_length(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '`' => {
                let length = quoted_length(rest);
                let name = rest[1..length].strip_suffix('`').unwrap_or(&rest[1..length]).replace("``", "`");
                tokens.push((Token::Word(name.to_lowercase(), true), start..start + length));
                length
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let is_part = |character: char| character.is_alphanumeric() || character == '_';
                let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
                tokens.push((Token::Word(rest[..length].to_lowercase(), false), start..start + length));
                length
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push((Token::Sign(first), start..start + first.len_utf8()));
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// Of a string with backslash escapes, its quotes included.
fn string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => (),
        }
    }
    text.len()
}

/// Of an identifier in backquotes, which are doubled inside it.
fn quoted_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'`', Some(b'`')) => at += 2,
            (b'`', _) => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn renamed(text: &str) -> String {
        let rename = [("sales", "sales_r"), ("a b", "c`d")].map(|(from, to)| (from.to_owned(), to.to_owned()));
        rename_databases(text, &rename.into())
    }

    #[test]
    fn case_34_names_of_tables_are_renamed_and_nothing_else() {
        for (text, expected) in [
            ("select id from sales.orders", "select id from sales_r.orders"),
            ("SELECT `orders`.`id` FROM `Sales`.`orders`", "SELECT `orders`.`id` FROM `sales_r`.`orders`"),
            ("select sales.id from x.t sales", "select sales.id from x.t sales"),
            ("select sales.t.id from sales.t", "select sales_r.t.id from sales_r.t"),
            ("select sales.s.f from x.t sales", "select sales.s.f from x.t sales"),
            (
                "select 'from sales.t', \"sales.t\" from a.b -- from sales.t",
                "select 'from sales.t', \"sales.t\" from a.b -- from sales.t",
            ),
            (
                "select * from a.b, sales.t c join sales.u on c.x = u.x",
                "select * from a.b, sales_r.t c join sales_r.u on c.x = u.x",
            ),
            (
                "select * from (select * from sales.t) q, sales.u",
                "select * from (select * from sales_r.t) q, sales_r.u",
            ),
            (
                "select f(a, sales.x) from sales.t where y in (select z from sales.u)",
                "select f(a, sales.x) from sales_r.t where y in (select z from sales_r.u)",
            ),
            ("select 1 from spark_catalog.sales.t", "select 1 from spark_catalog.sales_r.t"),
            ("select 1 from salesx.t, xsales.t", "select 1 from salesx.t, xsales.t"),
            ("select 'it\\'s from sales.t' from sales.t", "select 'it\\'s from sales.t' from sales_r.t"),
            ("/* from sales.t */ select 1 from sales . t", "/* from sales.t */ select 1 from sales_r . t"),
        ] {
            assert_eq!(renamed(text), expected);
        }
    }

    proptest! {
        #[test]
        fn text_that_names_no_renamed_database_is_as_it_was(text in "\\PC{0,60}") {
            prop_assume!(!text.to_lowercase().contains("sales") && !text.to_lowercase().contains("a b"));
            prop_assert_eq!(renamed(&text), text);
        }

        #[test]
        fn no_text_is_too_odd(text in "[`'\"\\\\a-c.,() /*-]{0,40}") {
            let _ = renamed(&text);
        }
    }
}
