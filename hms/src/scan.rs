//! Finds the end of a TBinary message in bytes that arrive in pieces: without frames nothing says how long a reply is.
//! Each byte is looked at once, whatever the pieces; memory is the open structs and containers, at most [`MAX_DEPTH`].

use crate::wire::{DecodeError, MAX_DEPTH, Wrong, kind};

/// The first two bytes of a message in the strict form, the only one that Hive writes.
const STRICT: u32 = 0x8001_0000;

/// What is open at the place where the scan stands.
#[derive(Debug, Clone, Copy)]
enum Open {
    Struct,
    Sequence { left: u32, of: u8 },
    Map { left: u32, key: u8, value: u8, at_value: bool },
}

/// A scan of one message, resumed with each piece.
#[derive(Debug, Default)]
pub struct Scanner {
    open: Vec<Open>,
    at: usize,
    begun: bool,
}

impl Scanner {
    /// A scan at the beginning of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at what has arrived since the last call; `bytes` is all of the message so far. The length of the message
    /// when it is whole, `None` when more is needed.
    ///
    /// # Errors
    /// When no message can begin or go on like this.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        if !self.begun {
            let Some(start) = word(bytes, 0) else { return Ok(None) };
            if start & 0xffff_0000 != STRICT {
                return Err(DecodeError { at: 0, what: Wrong::NoMessage(start) });
            }
            let Some(name) = word(bytes, 4) else { return Ok(None) };
            // Version, length of the name, name, sequence number.
            self.at = 12_usize.saturating_add(length(4, name)? as usize);
            self.begun = true;
            self.open.push(Open::Struct);
        }
        while let Some(open) = self.open.last_mut() {
            // Nothing is counted that has not arrived: a count alone must cost no time.
            if self.at > bytes.len() {
                return Ok(None);
            }
            let next = match open {
                Open::Struct => match bytes.get(self.at) {
                    None => return Ok(None),
                    Some(&kind::STOP) => {
                        self.at += 1;
                        None
                    }
                    Some(&of) => Some((of, 3)),
                },
                Open::Sequence { left: 0, .. } | Open::Map { left: 0, .. } => None,
                Open::Sequence { of, .. } => Some((*of, 0)),
                Open::Map { key, value, at_value, .. } => Some((if *at_value { *value } else { *key }, 0)),
            };
            let Some((of, header)) = next else {
                self.open.pop();
                continue;
            };
            let Some((size, inner)) = value(bytes, self.at.saturating_add(header), of)? else { return Ok(None) };
            match open {
                Open::Struct => {}
                Open::Sequence { left, .. } => *left -= 1,
                Open::Map { left, at_value, .. } => {
                    *left -= u32::from(*at_value);
                    *at_value = !*at_value;
                }
            }
            self.at = self.at.saturating_add(header).saturating_add(size);
            if let Some(inner) = inner {
                // The message itself is the first level.
                if self.open.len() > MAX_DEPTH {
                    return Err(DecodeError { at: self.at, what: Wrong::TooDeep });
                }
                self.open.push(inner);
            }
        }
        Ok((self.at <= bytes.len()).then_some(self.at))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at.checked_add(4)?)?;
    found.try_into().ok().map(u32::from_be_bytes)
}

fn length(at: usize, word: u32) -> Result<u32, DecodeError> {
    if word > i32::MAX as u32 {
        return Err(DecodeError { at, what: Wrong::Negative(word.cast_signed()) });
    }
    Ok(word)
}

/// How many bytes the value at `at` takes before what is open in it; `None` when that is not known yet.
fn value(bytes: &[u8], at: usize, of: u8) -> Result<Option<(usize, Option<Open>)>, DecodeError> {
    let plain = |size| Ok(Some((size, None)));
    match of {
        kind::BOOL | kind::BYTE => plain(1),
        kind::I16 => plain(2),
        kind::I32 => plain(4),
        kind::I64 | kind::DOUBLE => plain(8),
        kind::STRUCT => Ok(Some((0, Some(Open::Struct)))),
        kind::STRING => match word(bytes, at) {
            None => Ok(None),
            Some(found) => plain(4_usize.saturating_add(length(at, found)? as usize)),
        },
        kind::LIST | kind::SET => match (bytes.get(at), word(bytes, at.saturating_add(1))) {
            (Some(&of), Some(count)) => Ok(Some((5, Some(Open::Sequence { left: length(at + 1, count)?, of })))),
            _ => Ok(None),
        },
        kind::MAP => match (bytes.get(at..at.saturating_add(2)), word(bytes, at.saturating_add(2))) {
            (Some(&[key, value]), Some(count)) => {
                let left = length(at + 2, count)?;
                Ok(Some((6, Some(Open::Map { left, key, value, at_value: false }))))
            }
            _ => Ok(None),
        },
        other => Err(DecodeError { at, what: Wrong::Type(other) }),
    }
}
