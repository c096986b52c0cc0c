//! The little XML that object stores speak, read exactly: text keeps every character, because keys are in it.
//!
//! Never trims, never guesses: what is not well-formed, too deep or no XML at all (a proxy's HTML page) is an error that
//! says so. Pure; a crash leaves nothing.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements deeper than this are no answer of a store's.
const MAX_DEPTH: usize = 16;
/// Elements in one answer: 1,000 keys with a dozen fields each fit many times.
const MAX_ELEMENTS: usize = 200_000;

/// One element: its local name, the text directly in it, its children in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    /// It says of itself `Encoded="true"`: its text is percent-encoded, as Azure writes what XML cannot carry.
    pub encoded: bool,
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of that name.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// All children of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Whether the bytes look like an HTML page (a proxy's or a portal's) rather than XML.
pub(super) fn is_html(bytes: &[u8]) -> bool {
    let start: Vec<u8> =
        bytes.iter().skip_while(|b| b.is_ascii_whitespace()).take(14).map(u8::to_ascii_lowercase).collect();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

/// Reads the root element of an answer. The error says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Element, String> {
    if is_html(bytes) {
        return Err("an HTML page came instead of XML: a proxy or a login page may stand between".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "the XML is not UTF-8".to_owned())?;
    // A byte order mark, with which Azure begins, is no text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut elements = 0usize;
    loop {
        match reader.read_event().map_err(|error| format!("malformed XML: {error}"))? {
            Event::Start(start) => {
                elements += 1;
                if open.len() >= MAX_DEPTH || elements > MAX_ELEMENTS {
                    return Err("the XML is deeper or longer than any answer of a store".into());
                }
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                let encoded =
                    start.attributes().flatten().any(|a| a.key.as_ref() == b"Encoded" && *a.value == *b"true");
                open.push(Element { name, encoded, ..Element::default() });
            }
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err("malformed XML: an element ends twice".into()) };
                match open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Ok(done),
                }
            }
            Event::Text(piece) => {
                let piece = piece.decode().map_err(|error| format!("malformed XML: {error}"))?;
                match open.last_mut() {
                    Some(element) => element.text.push_str(&piece),
                    None if piece.trim().is_empty() => {}
                    None => return Err("no XML: text stands outside of elements".into()),
                }
            }
            Event::CData(piece) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&String::from_utf8_lossy(&piece));
                }
            }
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    Ok(None) => match &reference[..] {
                        b"lt" => '<',
                        b"gt" => '>',
                        b"amp" => '&',
                        b"apos" => '\'',
                        b"quot" => '"',
                        _ => return Err("malformed XML: an unknown entity".into()),
                    },
                    Err(error) => return Err(format!("malformed XML: {error}")),
                };
                if let Some(element) = open.last_mut() {
                    element.text.push(character);
                }
            }
            Event::Eof => return Err("the XML ends early".into()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Whether XML 1.0 can carry the text at all (most control characters cannot even be escaped).
pub(super) fn can_hold(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}'))
}

/// Appends `text` escaped for element content; white space other than blanks goes as character references, which no
/// parser normalises.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_every_character() {
        let root = parse(b"<?xml version=\"1.0\"?>\n<A xmlns=\"u\"><Key> a &amp;&#10;b </Key><Key/><x:ETag>&quot;e&#34;</x:ETag></A>")
            .unwrap();
        assert_eq!(root.name, "A");
        assert_eq!(root.text_of("Key"), Some(" a &\nb "));
        assert_eq!(root.all("Key").count(), 2);
        assert_eq!(root.text_of("ETag"), Some("\"e\""));
        let root = parse("\u{feff}<A><Name Encoded=\"true\">a%07</Name><Name>b%07</Name></A>".as_bytes()).unwrap();
        assert_eq!(root.children.iter().map(|name| name.encoded).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_is_no_xml_is_an_error_that_says_so() {
        let table: [(&[u8], &str); 7] = [
            (b"<!DOCTYPE html><html></html>", "HTML"),
            (b"  <HTML>", "HTML"),
            (b"<A><B></A>", "malformed"),
            (b"<A><Key>x", "ends early"),
            (b"", "ends early"),
            (b"hello", "outside"),
            (b"<A>\xff</A>", "UTF-8"),
        ];
        for (bytes, word) in table {
            let error = parse(bytes).unwrap_err();
            assert!(error.contains(word), "{error} should say {word}");
        }
        let deep = "<a>".repeat(100);
        assert!(parse(deep.as_bytes()).unwrap_err().contains("deeper"));
    }

    #[test]
    fn escaping_survives_parsing() {
        for text in ["a<b>&\"'c", "line\nfeed\r\ttab", " spaces ", "ünï"] {
            let mut body = String::from("<K>");
            escape_into(&mut body, text);
            body.push_str("</K>");
            assert_eq!(parse(body.as_bytes()).unwrap().text, text);
        }
        assert!(!can_hold("bell\u{7}"));
        assert!(can_hold("tab\tnl\n"));
    }
}
