//! Where a listing will be some pages from now, guessed from one page of it.
//!
//! Keys are read as numbers: after the prefix that a page has in common, each position is a digit whose alphabet is the bytes
//! seen there, widened to whole classes (digits, hexadecimal, letters). What a page advances, the next ones will, too; a
//! carry goes into the prefix. A guess may be wrong in either direction: whoever cuts there loses speed, never a key. Pure.

use manifest::ObjectKey;

/// Positions behind the common prefix that count.
const DIGITS: usize = 6;

/// The bytes that a position is taken to have, ascending.
struct Alphabet(Vec<u8>);

impl Alphabet {
    fn of(seen: impl Iterator<Item = u8>) -> Self {
        let mut has = [false; 256];
        seen.for_each(|byte| has[usize::from(byte)] = true);
        let any = |class: std::ops::RangeInclusive<u8>| class.into_iter().any(|byte| has[usize::from(byte)]);
        let letters_are_hex = |low: u8| !any(low + 6..=low + 25);
        let mut widen = Vec::new();
        if any(b'0'..=b'9') {
            widen.push(b'0'..=b'9');
        }
        for low in [b'A', b'a'] {
            if any(low..=low + 25) {
                let hex = letters_are_hex(low) && any(b'0'..=b'9');
                widen.push(low..=if hex { low + 5 } else { low + 25 });
            }
        }
        widen.into_iter().flatten().for_each(|byte| has[usize::from(byte)] = true);
        Self((0..=u8::MAX).filter(|byte| has[usize::from(*byte)]).collect())
    }

    /// Digits, and letters among them: hexadecimal or another base above ten.
    fn is_mixed(&self) -> bool {
        let any = |class: fn(&u8) -> bool| self.0.iter().any(class);
        any(u8::is_ascii_digit) && any(u8::is_ascii_alphabetic)
    }

    fn is_digits(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(u8::is_ascii_digit)
    }

    /// The place of a byte; of one that is not in it, the next one's.
    fn rank(&self, byte: u8) -> usize {
        self.0.partition_point(|known| *known < byte)
    }
}

/// A position: its alphabet, and whether keys may end before it.
struct Digit {
    alphabet: Alphabet,
    may_end: bool,
}

impl Digit {
    fn radix(&self) -> u128 {
        (self.alphabet.0.len() + usize::from(self.may_end)).max(1) as u128
    }

    fn value(&self, byte: Option<&u8>) -> u128 {
        byte.map_or(0, |byte| self.alphabet.rank(*byte) + usize::from(self.may_end)) as u128
    }

    /// The byte of a value; `None` where the key ends.
    fn byte(&self, value: u128) -> Option<u8> {
        let index = usize::try_from(value).ok()?.checked_sub(usize::from(self.may_end))?;
        self.alphabet.0.get(index).copied()
    }
}

/// A key about `pages` pages behind `page`, which is sorted; `None` when the page does not tell. Greater than the page's last
/// key, if there is one.
pub fn ahead(page: &[&ObjectKey], pages: u32) -> Option<ObjectKey> {
    let (first, last) = (page.first()?.as_bytes(), page.last()?.as_bytes());
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let mut digits: Vec<Digit> = (common..common + DIGITS)
        .map(|position| Digit {
            alphabet: Alphabet::of(page.iter().filter_map(|key| key.as_bytes().get(position).copied())),
            may_end: page.iter().any(|key| key.as_bytes().len() <= position),
        })
        .collect();
    // The slow positions of a hexadecimal number show few of its digits: they are what the next position is.
    for position in (1..digits.len()).rev() {
        if digits[position].alphabet.is_mixed() && digits[position - 1].alphabet.is_digits() {
            digits[position - 1].alphabet = Alphabet(digits[position].alphabet.0.clone());
        }
    }
    // At most 257^6, well within 128 bits even times the pages.
    let whole: u128 = digits.iter().map(Digit::radix).product();
    let number = |key: &[u8]| {
        let values = digits.iter().enumerate().map(|(i, digit)| (digit.radix(), digit.value(key.get(common + i))));
        values.fold(0u128, |sum, (radix, value)| sum * radix + value)
    };
    let step = number(last).checked_sub(number(first))?;
    let target = number(last) + step * u128::from(pages);
    let (carry, mut rest) = (target / whole, target % whole);
    let mut guess = last[..common].to_vec();
    if !add(&mut guess, carry, &digits[0].alphabet) {
        return None;
    }
    let mut values = Vec::with_capacity(digits.len());
    for digit in digits.iter().rev() {
        values.push(rest % digit.radix());
        rest /= digit.radix();
    }
    guess.extend(digits.iter().zip(values.into_iter().rev()).map_while(|(digit, value)| digit.byte(value)));
    // What is no text cannot be asked for; what lies behind is no guess.
    let text = std::str::from_utf8(&guess).ok()?;
    (text.as_bytes() > last).then(|| text.into())
}

/// Adds a carry to the end of a prefix whose next position has the alphabet `next`; false when it does not fit.
fn add(prefix: &mut [u8], mut carry: u128, next: &Alphabet) -> bool {
    for byte in prefix.iter_mut().rev() {
        if carry == 0 {
            return true;
        }
        let own = Alphabet::of(std::iter::once(*byte));
        let alphabet = if own.is_digits() && next.is_mixed() { next } else { &own };
        let radix = alphabet.0.len() as u128;
        let sum = alphabet.rank(*byte) as u128 + carry;
        carry = sum / radix;
        *byte = alphabet.0[usize::try_from(sum % radix).unwrap_or_default()];
    }
    carry == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(keys: &[String], pages: u32) -> Option<String> {
        let keys: Vec<ObjectKey> = keys.iter().map(|key| key.as_str().into()).collect();
        ahead(&keys.iter().collect::<Vec<_>>(), pages).map(|key| key.as_str().unwrap().to_owned())
    }

    #[test]
    fn numbers_go_on_and_carry() {
        let page: Vec<String> = (0..1000).map(|i| format!("part-{i:08}.parquet")).collect();
        let found = guess(&page, 8).unwrap();
        assert!(("part-00008".to_owned().."part-0001".to_owned()).contains(&found), "{found}");
        let page: Vec<String> = (9000..10_000).map(|i| format!("part-{i:08}.parquet")).collect();
        let found = guess(&page, 8).unwrap();
        assert!(("part-00017".to_owned().."part-00019".to_owned()).contains(&found), "{found}");
        assert_eq!(guess(&["a9".into(), "a99".into()], 1_000_000), None, "nothing to carry into but a letter's end");
    }

    #[test]
    fn days_hexadecimal_and_names_go_on() {
        let page: Vec<String> = (0..1000).map(|i| format!("dt=2026-01-{:02}/f{:04}", 1 + i / 300, i % 300)).collect();
        let found = guess(&page, 4).unwrap();
        assert!(("dt=2026-01-1".to_owned().."dt=2026-01-3".to_owned()).contains(&found), "{found}");
        let page: Vec<String> = (0..1000u64).map(|i| format!("{:016x}", i << 44)).collect();
        let found = guess(&page, 8).unwrap();
        let (low, high) = (format!("{:016x}", 7000u64 << 44), format!("{:016x}", 11_000u64 << 44));
        assert!((low..high).contains(&found), "{found}");
    }

    #[test]
    fn what_tells_nothing_gives_no_guess() {
        assert_eq!(guess(&[], 8), None);
        assert_eq!(guess(&["one".into()], 8), None);
        assert_eq!(guess(&["~".into(), "~~".into()], 1000), None);
    }

    proptest::proptest! {
        #[test]
        fn a_guess_is_text_behind_the_page(mut keys in proptest::collection::vec("[a-c0-9/é\u{1f600}~]{0,8}", 1..40), pages in 1u32..100) {
            keys.sort();
            if let Some(found) = guess(&keys, pages) {
                proptest::prop_assert!(&found > keys.last().unwrap());
            }
        }
    }
}
