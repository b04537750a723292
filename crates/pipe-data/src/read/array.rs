//! Where the elements of a JSON array begin and end, without parsing them: brackets and strings are all that counts.
//!
//! An element that cannot be told from the next one, since a bracket or a quote is missing, ends where it must have:
//! at a line end within a string, before an object where a key should stand, or at a bracket that does not fit. From
//! there on everything belongs to it, up to the next line that begins with an object.

use memchr::{memchr, memchr2};

use super::Reason;

/// Brackets within one another, at most: more than a parser follows.
const MAX_DEPTH: u32 = 10_000;

/// Goes from element to element, from after the opening bracket on.
#[derive(Debug)]
pub(super) struct ArrayFramer {
    /// The closing bracket was there.
    closed: bool,
    has_pairs: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Element {
    /// After `gap` bytes of no element, one of `length` bytes.
    Whole { gap: usize, length: usize, fault: Option<Reason> },
    /// It may go on after these bytes.
    More,
    /// No element comes any more.
    End,
}

impl ArrayFramer {
    pub(super) fn new(has_pairs: bool) -> ArrayFramer {
        ArrayFramer { closed: false, has_pairs }
    }

    /// The first element in `bytes`. `is_last`: nothing comes after them.
    pub(super) fn next(&mut self, bytes: &[u8], is_last: bool) -> Element {
        let mut closed = self.closed;
        let mut gap = 0;
        loop {
            match bytes.get(gap) {
                None if !is_last => return Element::More,
                None if closed => return Element::End,
                // The closing bracket is missing: the array was cut short.
                None => {
                    self.closed = true;
                    return Element::Whole { gap, length: 0, fault: Some(Reason::InvalidJson) };
                }
                Some(b' ' | b'\t' | b'\n' | b'\r') => gap += 1,
                Some(b',') if !closed => gap += 1,
                Some(b']') if !closed => (closed, gap) = (true, gap + 1),
                Some(_) => break,
            }
        }
        let body = &bytes[gap..];
        // After the array's end comes no element, whatever it is.
        let found = if closed { None } else { self.element(body) };
        match found {
            Some((length, fault)) => Element::Whole { gap, length, fault },
            None if is_last => {
                self.closed = true;
                Element::Whole { gap, length: body.len(), fault: Some(Reason::InvalidJson) }
            }
            None => Element::More,
        }
    }

    /// How much of `bytes` belongs to an element that is too long, and whether it ends there: before the next line that
    /// begins with an object.
    pub(super) fn skip(&self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while !self.closed
            && let Some(line) = memchr(b'\n', &bytes[at..])
        {
            let after = at + line + 1;
            let blank = bytes[after..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            match bytes.get(after + blank) {
                Some(b'{') => return (after, true),
                Some(_) => at = after,
                // Not known yet: the line end is looked at again, unless it is all that is there.
                None if at + line > 0 => return (at + line, false),
                None => return (bytes.len(), false),
            }
        }
        (bytes.len(), false)
    }

    /// The length of the element that `bytes` begin with; absent where they end before it does.
    fn element(&self, bytes: &[u8]) -> Option<(usize, Option<Reason>)> {
        let mut brackets = Brackets::default();
        let mut at = 0;
        loop {
            let byte = *bytes.get(at)?;
            match byte {
                b'"' => match self.string(&bytes[at + 1..])? {
                    Some(length) => at += length + 2,
                    None => return resume(bytes, at + 1),
                },
                b'{' | b'[' => {
                    if byte == b'{' && brackets.in_object() && follows_comma(&bytes[..at]) {
                        // A closing brace is missing before it.
                        let comma = bytes[..at].iter().rposition(|byte| *byte == b',').unwrap_or(at);
                        return Some((comma, Some(Reason::InvalidJson)));
                    }
                    brackets.open(byte == b'{');
                    if brackets.depth > MAX_DEPTH {
                        return resume(bytes, at).map(|(length, _)| (length, Some(Reason::TooDeep)));
                    }
                    at += 1;
                }
                b'}' | b']' if brackets.depth == 0 => {
                    // After a bare word it ends the array; else it stands where an element should begin.
                    let length = if at == 0 { 1 } else { at };
                    return Some((length, (at == 0).then_some(Reason::InvalidJson)));
                }
                b'}' | b']' => {
                    if !brackets.close(byte == b'}') {
                        return Some((at.max(1), Some(Reason::InvalidJson)));
                    }
                    at += 1;
                    if brackets.depth == 0 {
                        return Some((at, None));
                    }
                }
                b',' if brackets.depth == 0 => return Some((at, None)),
                _ => at += self.character(&bytes[at..])?,
            }
        }
    }

    /// The length of a string's content, up to its closing quote. The inner absence: it holds a line end, which none does.
    fn string(&self, bytes: &[u8]) -> Option<Option<usize>> {
        let mut at = 0;
        loop {
            if !self.has_pairs {
                let step = memchr2(b'"', b'\\', &bytes[at..]);
                let end = at + step.unwrap_or(bytes.len() - at);
                if memchr2(b'\n', b'\r', &bytes[at..end]).is_some() {
                    return Some(None);
                }
                at = end;
                step?;
            }
            match *bytes.get(at)? {
                b'"' => return Some(Some(at)),
                b'\\' => match bytes.get(at + 1)? {
                    b'\n' | b'\r' => return Some(None),
                    _ => at += 2,
                },
                b'\n' | b'\r' => return Some(None),
                _ => at += self.character(&bytes[at..])?,
            }
        }
    }

    /// The length of the character that `bytes` begin with, as far as its later bytes could be taken for ASCII.
    fn character(&self, bytes: &[u8]) -> Option<usize> {
        if !self.has_pairs || bytes[0] <= 0x80 {
            return Some(1);
        }
        // The same file may hold UTF-8 too, whose later bytes are no ASCII.
        let length = match bytes[0] {
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => 0,
        };
        if length > 0 && bytes.get(1..length).is_some_and(|rest| rest.iter().all(|byte| (0x80..0xc0).contains(byte))) {
            return Some(length);
        }
        let second = *bytes.get(1)?;
        Some(if second >= 0x40 && second != 0x7f { 2 } else { 1 })
    }
}

/// Which brackets are open: some of the innermost by kind, the others by number.
#[derive(Default)]
struct Brackets {
    depth: u32,
    /// Of how many the kind is known.
    known: u32,
    /// The last bit is the innermost; set for an object.
    kinds: u128,
}

impl Brackets {
    fn open(&mut self, object: bool) {
        self.depth += 1;
        self.known = (self.known + 1).min(u128::BITS);
        self.kinds = self.kinds << 1 | u128::from(object);
    }

    /// Whether the innermost is of this kind, as far as that is known.
    fn close(&mut self, object: bool) -> bool {
        let fits = self.known == 0 || (self.kinds & 1 == 1) == object;
        self.depth -= 1;
        self.known = self.known.saturating_sub(1);
        self.kinds >>= 1;
        fits
    }

    fn in_object(&self) -> bool {
        self.known > 0 && self.kinds & 1 == 1
    }
}

/// Whether the last sign is a comma, blanks left aside.
fn follows_comma(bytes: &[u8]) -> bool {
    bytes.iter().rev().find(|byte| !byte.is_ascii_whitespace()) == Some(&b',')
}

/// The length of a bad element that reaches up to the next line that begins with an object, or with the array's end.
fn resume(bytes: &[u8], from: usize) -> Option<(usize, Option<Reason>)> {
    let mut at = from;
    loop {
        at += memchr2(b'\n', b'\r', &bytes[at..])? + 1;
        let line = &bytes[at..];
        let blank = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match line.get(blank)? {
            b'{' | b']' => return Some((at, Some(Reason::InvalidJson))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements as text, with what is wrong with them.
    fn elements(text: &str) -> Vec<(&str, Option<Reason>)> {
        let mut framer = ArrayFramer::new(false);
        let (mut rest, mut found) = (text.trim_start().strip_prefix('[').unwrap(), Vec::new());
        loop {
            match framer.next(rest.as_bytes(), true) {
                Element::Whole { gap, length, fault } => {
                    found.push((rest[gap..gap + length].trim_end(), fault));
                    rest = &rest[gap + length..];
                }
                Element::More => panic!("all is there"),
                Element::End => return found,
            }
        }
    }

    const BAD: Option<Reason> = Some(Reason::InvalidJson);

    #[test]
    fn elements_are_framed_whatever_is_in_them() {
        assert_eq!(
            elements(r#" [ {"a": "x]},\"{"} , [1, [2]], "s" ,3, {"b": [{}]} ] "#),
            [(r#"{"a": "x]},\"{"}"#, None), ("[1, [2]]", None), ("\"s\" ", None), ("3", None), (r#"{"b": [{}]}"#, None),]
                .map(|(text, fault)| (text.trim_end(), fault))
        );
        assert_eq!(elements("[]"), []);
    }

    #[test]
    fn a_missing_sign_costs_one_element() {
        let good = r#"{"a": "y"}"#;
        for bad in [r#"{"a": "x","#, r#"{"a": "x"#, r#"{"a": {"b": 1}"#, r#"{"a": x"}"#] {
            let text = format!("[\n{good},\n{bad},\n{good},\n{good}\n]");
            let found = elements(&text);
            assert_eq!(found.iter().filter(|(text, fault)| *text == good && fault.is_none()).count(), 3, "{bad}: {found:?}");
            assert_eq!(found.iter().filter(|(_, fault)| fault.is_some()).count(), 1, "{bad}: {found:?}");
        }
        assert_eq!(elements(r#"[{"a": 1, {"a": 2}]"#), [(r#"{"a": 1"#, BAD), (r#"{"a": 2}"#, None)]);
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_told() {
        assert_eq!(elements(r#"[{"a": 1}"#), [(r#"{"a": 1}"#, None), ("", BAD)]);
        assert_eq!(elements(r#"[{"a": 1}, {"a"#), [(r#"{"a": 1}"#, None), (r#"{"a"#, BAD)]);
        assert_eq!(elements("[1] 2"), [("1", None), ("2", BAD)]);
    }

    #[test]
    fn a_second_byte_is_no_backslash() {
        // 乗 is 0x81 0x5C in GBK: its second byte is a backslash.
        let bytes = b"{\"a\": \"\x81\x5c\"}, {\"b\": \"\xe4\xb9\x97\\n\"}]";
        let mut framer = ArrayFramer::new(true);
        let Element::Whole { gap, length, fault } = framer.next(bytes, true) else { panic!() };
        assert_eq!((gap, length, fault), (0, 11, None));
        let Element::Whole { length, fault, .. } = framer.next(&bytes[gap + length..], true) else { panic!() };
        assert_eq!((length, fault), (14, None));
    }
}
