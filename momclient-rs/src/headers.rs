//! [`Headers`]: what a received message carries beside its content.

use std::fmt;
use std::slice;

use protos::Header;

/// The headers of a message that was received, in the order of their names: looked at where they are. Names are in lower
/// case.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a>(&'a [Header]);

impl<'a> Headers<'a> {
    pub(crate) fn new(headers: &'a [Header]) -> Self {
        Self(headers)
    }

    /// The value of the header of this name, which is to be in lower case.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|header| header.name == name);
        found.map(|header| header.value.as_str())
    }

    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        self.into_iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = std::iter::Map<slice::Iter<'a, Header>, fn(&'a Header) -> (&'a str, &'a str)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|header| (&header.name, &header.value))
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
