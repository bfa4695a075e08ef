//! Headers: what a message carries beside its content, of which `traceparent` is one. The one place that says which are
//! legal; MoMs and clients check with it at their edge.

use std::fmt;

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::Header;

/// The most headers that a message may have.
pub const MAX_HEADERS: usize = 16;

/// The most bytes that the name of a header may have.
pub const MAX_HEADER_NAME_LEN: usize = 64;

/// The most bytes that the value of a header may have.
pub const MAX_HEADER_VALUE_LEN: usize = 1024;

/// The most bytes that the names and values of a message may have together.
pub const MAX_HEADER_BYTES: usize = 4096;

/// The headers in which a call says of which trace it is part, as W3C Trace Context has them.
pub const TRACE_CONTEXT: [&str; 2] = ["traceparent", "tracestate"];

/// The headers of a message, at least one: legal, in the order of their names, which are in lower case.
///
/// They are kept in one piece, so that what they take in memory is little more than their [bytes](Self::bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Names and values one after the other.
    text: Box<str>,
    /// Where each name and each value ends.
    ends: Box<[u16]>,
}

/// Why headers are refused. The text names the header, the fault and what is legal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHeader(String);

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidHeader {}

impl Headers {
    /// Headers of these names and values in the form in which they are kept; `None` if there are none.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(
        given: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Option<Self>, InvalidHeader> {
        let mut pairs = Vec::new();
        let mut bytes = 0;
        for (name, value) in given {
            check(name.as_ref(), value.as_ref())?;
            let shown = name.as_ref();
            if pairs.len() == MAX_HEADERS {
                return Err(InvalidHeader(format!(
                    "the header {shown:?} is one too many; legal are at most {MAX_HEADERS} in a message"
                )));
            }
            bytes += shown.len() + value.as_ref().len();
            if bytes > MAX_HEADER_BYTES {
                return Err(InvalidHeader(format!(
                    "the header {shown:?} makes {bytes} bytes of names and values; legal are at most \
                     {MAX_HEADER_BYTES} in a message"
                )));
            }
            pairs.push((name, value));
        }
        if pairs.is_empty() {
            return Ok(None);
        }
        let folded = |name: &N| name.as_ref().to_ascii_lowercase();
        pairs.sort_by_cached_key(|(name, _)| folded(name));
        if let Some([_, (name, _)]) = pairs
            .array_windows()
            .find(|[(one, _), (next, _)]| one.as_ref().eq_ignore_ascii_case(next.as_ref()))
        {
            return Err(InvalidHeader(format!(
                "the header {:?} is given twice; legal is once",
                folded(name)
            )));
        }
        let mut text = String::with_capacity(bytes);
        let mut ends = Vec::with_capacity(2 * pairs.len());
        for (name, value) in pairs {
            text.push_str(&folded(&name));
            ends.push(text.len() as u16);
            text.push_str(value.as_ref());
            ends.push(text.len() as u16);
        }
        let (text, ends) = (text.into(), ends.into());
        Ok(Some(Self { text, ends }))
    }

    /// As [`new`](Self::new), of headers that were received.
    pub fn received(given: Vec<Header>) -> Result<Option<Self>, InvalidHeader> {
        Self::new(given.into_iter().map(|header| (header.name, header.value)))
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (ends, _) = self.ends.as_chunks::<2>();
        ends.iter().scan(0, |start, [name, value]| {
            let (name, end) = (usize::from(*name), usize::from(*value));
            let pair = (&self.text[*start..name], &self.text[name..end]);
            *start = end;
            Some(pair)
        })
    }

    /// The value of the header of this name, which is to be in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| value)
    }

    /// How many bytes [`encode`](Self::encode) writes for a field whose key takes one byte.
    pub fn encoded_len(&self) -> usize {
        let field = |len: usize| 1 + encoded_len_varint(len as u64) + len;
        self.iter()
            .map(|(name, value)| field(fields_len(name, value)))
            .sum()
    }

    /// Writes them as the repeated field of this number, which is below 16.
    pub fn encode(&self, field: u32, buffer: &mut impl BufMut) {
        for (name, value) in self.iter() {
            encode_key(field, WireType::LengthDelimited, buffer);
            encode_varint(fields_len(name, value) as u64, buffer);
            for (field, text) in [(1, name), (2, value)] {
                if !text.is_empty() {
                    encode_key(field, WireType::LengthDelimited, buffer);
                    encode_varint(text.len() as u64, buffer);
                    buffer.put_slice(text.as_bytes());
                }
            }
        }
    }
}

impl From<&Headers> for Vec<Header> {
    fn from(headers: &Headers) -> Self {
        let headers = headers.iter().map(|(name, value)| Header {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        headers.collect()
    }
}

/// Adds a header that came with a call and not with the message: only if it is legal, and if the message has none of
/// its name and room for it. A proxy or a library that adds one is no reason to refuse what is pushed.
pub fn adopt(headers: &mut Vec<Header>, name: &str, value: &str) {
    let bytes: usize = headers
        .iter()
        .map(|header| header.name.len() + header.value.len())
        .sum();
    let is_known = headers
        .iter()
        .any(|header| header.name.eq_ignore_ascii_case(name));
    if !is_known
        && headers.len() < MAX_HEADERS
        && bytes + name.len() + value.len() <= MAX_HEADER_BYTES
        && check(name, value).is_ok()
    {
        headers.push(Header {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
}

/// Of a [`Header`] with a name and a value.
fn fields_len(name: &str, value: &str) -> usize {
    let field = |text: &str| match text.len() {
        0 => 0,
        len => 1 + encoded_len_varint(len as u64) + len,
    };
    field(name) + field(value)
}

fn check(name: &str, value: &str) -> Result<(), InvalidHeader> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    let fault = if name.is_empty() {
        "has no name".to_owned()
    } else if name.len() > MAX_HEADER_NAME_LEN {
        format!("has a name of {} bytes", name.len())
    } else if let Some(fault) = name.chars().find(|c| !legal(*c)) {
        format!("has the character {fault:?} in its name")
    } else if value.len() > MAX_HEADER_VALUE_LEN {
        return Err(InvalidHeader(format!(
            "the header {name:?} has a value of {} bytes; legal are at most {MAX_HEADER_VALUE_LEN}",
            value.len()
        )));
    } else if let Some(fault) = value.chars().find(|c| c.is_control()) {
        return Err(InvalidHeader(format!(
            "the header {name:?} has the control character {fault:?} in its value; legal is text without any"
        )));
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(MAX_HEADER_NAME_LEN).collect();
    Err(InvalidHeader(format!(
        "the header {shown:?} {fault}; legal are 1 to {MAX_HEADER_NAME_LEN} of the characters a-z, A-Z, 0-9, '.', '_' \
         and '-'"
    )))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::Run;

    fn pairs(headers: &Headers) -> Vec<(&str, &str)> {
        headers.iter().collect()
    }

    #[test]
    fn names_are_folded_and_sorted() {
        let given = [("X-B", "2"), ("a.c", ""), ("TraceParent", "\u{e9} 1")];
        let headers = Headers::new(given).unwrap().unwrap();
        assert_eq!(
            pairs(&headers),
            [("a.c", ""), ("traceparent", "\u{e9} 1"), ("x-b", "2")]
        );
        assert_eq!(headers.bytes(), 3 + 11 + 4 + 3 + 1);
        assert_eq!(headers.get("x-b"), Some("2"));
        assert_eq!(headers.get("x-c"), None);
        assert_eq!(Headers::new([("", ""); 0]), Ok(None));
    }

    #[test]
    fn what_is_not_legal_is_named_with_the_limit() {
        let long = "n".repeat(65);
        let large = "v".repeat(1025);
        for (given, fault, limit) in [
            (("", "x"), "no name", "1 to 64"),
            ((&*long, "x"), "65 bytes", "1 to 64"),
            (("a b", "x"), "\"a b\" has the character ' '", "1 to 64"),
            (("caf\u{e9}", "x"), "'\u{e9}'", "a-z"),
            (("a:b", "x"), "':'", "a-z"),
            (("a", &*large), "\"a\" has a value of 1025", "1024"),
            (("a", "x\ny"), "\"a\" has the control", "'\\n'"),
            (("a", "\u{85}"), "control", "without"),
        ] {
            let error = Headers::new([given]).unwrap_err().to_string();
            assert!(
                error.contains(fault) && error.contains(limit),
                "{given:?}: {error}"
            );
        }
        assert!(Headers::new([(&long[1..], &large[1..])]).is_ok());
    }

    #[test]
    fn all_headers_of_a_message_are_bounded() {
        let many = |count: usize| (0..count).map(|number| (format!("h{number}"), String::new()));
        assert!(Headers::new(many(16)).is_ok());
        let error = Headers::new(many(17)).unwrap_err().to_string();
        assert!(
            error.contains("\"h16\"") && error.contains("at most 16"),
            "{error}"
        );

        let value = "v".repeat(1023);
        let full = ["a", "b", "c", "d"].map(|name| (name, &*value));
        assert_eq!(Headers::new(full).unwrap().unwrap().bytes(), 4096);
        let more = full.into_iter().chain([("e", "")]);
        let error = Headers::new(more).unwrap_err().to_string();
        assert!(
            error.contains("\"e\" makes 4097") && error.contains("at most 4096"),
            "{error}"
        );

        let error = Headers::new([("A", "1"), ("a", "2")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"a\" is given twice"), "{error}");
    }

    #[test]
    fn they_are_encoded_as_prost_does() {
        let given = [("traceparent", "00-ab-cd-01"), ("empty", "")];
        let headers = Headers::new(given).unwrap().unwrap();
        let run = Run {
            headers: (&headers).into(),
            ..Run::default()
        };
        let mut encoded = Vec::new();
        headers.encode(6, &mut encoded);
        assert_eq!(encoded, run.encode_to_vec());
        assert_eq!(headers.encoded_len(), encoded.len());
        let decoded = Run::decode(&*encoded).unwrap();
        assert_eq!(Headers::received(decoded.headers), Ok(Some(headers)));
    }

    #[test]
    fn a_header_of_the_call_gives_way_to_the_messages_own() {
        let header = |name: &str, value: &str| Header {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let mut headers = vec![header("TraceParent", "own")];
        adopt(&mut headers, "traceparent", "of the call");
        adopt(&mut headers, "tracestate", "of the call");
        let both = vec![
            header("TraceParent", "own"),
            header("tracestate", "of the call"),
        ];
        assert_eq!(headers, both);
        adopt(&mut headers, "too-large", &"x".repeat(1025));
        adopt(&mut headers, "not legal", "");
        assert_eq!(headers, both);
        let mut full = vec![header("x", &"x".repeat(MAX_HEADER_BYTES - 1))];
        adopt(&mut full, "traceparent", "of the call");
        assert_eq!(full.len(), 1, "there is no room");
    }
}
