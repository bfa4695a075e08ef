//! Reads single keys, and says of each fault which key, where it stands, what was found and what is legal.

use std::ops::RangeInclusive;

use figment::error::Actual;
use figment::value::{Dict, Value};
use figment::{Figment, Source};

/// Collects faults and oddities while keys are read, so that all of them are told at once.
pub(super) struct Reader<'a> {
    figment: &'a Figment,
    faults: Vec<String>,
    warnings: Vec<String>,
    unknown: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(figment: &'a Figment) -> Self {
        Self {
            figment,
            faults: Vec::new(),
            warnings: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Warnings and faults.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        if !self.unknown.is_empty() {
            let keys = self.unknown.join(", ");
            self.warnings
                .push(format!("settings that mean nothing are ignored: {keys}"));
        }
        (self.warnings, self.faults)
    }

    pub(super) fn find(&self, key: &str) -> Option<Value> {
        self.figment.find_value(key).ok()
    }

    /// A whole number; `default` if it is not set or wrong.
    pub(super) fn number(&mut self, key: &str, legal: RangeInclusive<u64>, default: u64) -> u64 {
        self.optional_number(key, legal).unwrap_or(default)
    }

    pub(super) fn optional_number(&mut self, key: &str, legal: RangeInclusive<u64>) -> Option<u64> {
        let found = self.find(key)?;
        self.number_in(key, &found, legal)
    }

    pub(super) fn number_in(
        &mut self,
        key: &str,
        found: &Value,
        legal: RangeInclusive<u64>,
    ) -> Option<u64> {
        // A file gives signed numbers, a variable unsigned ones.
        let unsigned = found.to_u128().and_then(|number| number.try_into().ok());
        let number = unsigned.or_else(|| found.to_i128()?.try_into().ok());
        let number = number.filter(|number| legal.contains(number));
        if number.is_none() {
            let (least, most) = legal.into_inner();
            self.fault(
                key,
                found,
                &format!("a whole number from {least} to {most}"),
            );
        }
        number
    }

    /// `found` is not what `key` may be.
    pub(super) fn fault(&mut self, key: &str, found: &Value, legal: &str) {
        let place = self.place(key, found);
        let found = match found.to_actual() {
            Actual::Signed(number) => number.to_string(),
            Actual::Unsigned(number) => number.to_string(),
            Actual::Float(number) => number.to_string(),
            Actual::Str(text) => format!("{text:?}"),
            other => format!("a {other}"),
        };
        self.complain(format!("{place} is {found}; legal is {legal}"));
    }

    /// `key` is wrong, or is not in `parent`, where it has to be.
    pub(super) fn fault_or_missing(
        &mut self,
        key: &str,
        found: Option<&Value>,
        parent: &Value,
        legal: &str,
    ) {
        if let Some(found) = found {
            self.fault(key, found, legal);
        } else {
            let place = self.place(key, parent);
            self.complain(format!("{place} is missing; legal is {legal}"));
        }
    }

    pub(super) fn complain(&mut self, fault: String) {
        self.faults.push(fault);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// `key` means nothing.
    pub(super) fn unknown(&mut self, key: &str, found: &Value) {
        let place = self.place(key, found);
        self.unknown.push(place);
    }

    /// Notes the keys in `section` (the whole profile, if it is empty) that `is_known` does not know.
    pub(super) fn warn_of_unknown_keys(&mut self, section: &str, is_known: impl Fn(&str) -> bool) {
        let keys: Vec<String> = if section.is_empty() {
            let all = self.figment.extract::<Dict>().unwrap_or_default();
            all.into_keys().collect()
        } else {
            match self.find(section) {
                Some(Value::Dict(_, fields)) => fields.into_keys().collect(),
                _ => Vec::new(),
            }
        };
        for key in keys.iter().filter(|key| !is_known(key)) {
            let path = if section.is_empty() {
                key.clone()
            } else {
                format!("{section}.{key}")
            };
            match self.find(&path) {
                Some(found) => self.unknown(&path, &found),
                None => self.unknown.push(format!("`{path}`")),
            }
        }
    }

    /// A key and where its value comes from.
    pub(super) fn place(&self, key: &str, found: &Value) -> String {
        let tag = found.tag();
        let metadata = self.figment.get_metadata(tag);
        match metadata.and_then(|metadata| metadata.source.as_ref()) {
            Some(Source::File(path)) => {
                let profile = tag
                    .profile()
                    .unwrap_or_else(|| self.figment.profile().clone());
                format!("`{key}` ({}, [{profile}])", path.display())
            }
            _ => match metadata {
                Some(metadata) if metadata.name.contains("environment") => {
                    let variable = key.split(['.', '[']).next().unwrap_or(key).to_uppercase();
                    format!("`{key}` (variable ROCKET_{variable})")
                }
                _ => format!("`{key}`"),
            },
        }
    }

    /// The file that was read, if there was one.
    pub(super) fn file(&self) -> Option<String> {
        self.figment.metadata().find_map(|metadata| {
            let path = metadata.source.as_ref()?.file_path()?;
            Some(path.display().to_string())
        })
    }
}
