//! A TOML table that is read key by key: it knows its path, and what nobody asked for is a mistake.

use std::time::Duration;

use toml::Value;

use crate::Problems;

/// One table of a document under reading. Call the readers, then [`Table::finish`].
pub struct Table {
    path: String,
    left: toml::Table,
    known: Vec<&'static str>,
}

impl Table {
    /// The top of a document.
    ///
    /// # Errors
    /// One problem naming line and column if the text is no TOML.
    pub fn document(text: &str) -> Result<Self, Problems> {
        match text.parse::<toml::Table>() {
            Ok(left) => Ok(Self { path: String::new(), left, known: Vec::new() }),
            Err(e) => {
                let line = e.span().map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
                Err(Problems::one(format!("line {line}"), "", e.message().to_owned(), "mend the TOML syntax there"))
            }
        }
    }

    /// The path of a key of this table, as problems name it.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.left.remove(key)
    }

    /// Text under `key`, if present.
    pub fn text(&mut self, key: &'static str, problems: &mut Problems) -> Option<String> {
        match self.take(key)? {
            Value::String(s) => Some(s),
            other => {
                problems.add(
                    self.path(key),
                    shown(&other),
                    format!("is {}, not text", kind(&other)),
                    "put it in quotes",
                );
                None
            }
        }
    }

    /// Text under `key`; its absence is a problem.
    pub fn required(&mut self, key: &'static str, mend: &str, problems: &mut Problems) -> Option<String> {
        let present = self.left.contains_key(key);
        let text = self.text(key, problems);
        if !present {
            problems.add(self.path(key), "", "is missing", mend);
        }
        text
    }

    /// A list of texts under `key`; empty if it is absent. One text alone is a list of one.
    pub fn text_list(&mut self, key: &'static str, problems: &mut Problems) -> Vec<String> {
        let path = self.path(key);
        let all = match self.take(key) {
            None => return Vec::new(),
            Some(Value::String(one)) => return vec![one],
            Some(Value::Array(all)) => all,
            Some(other) => {
                problems.add(path, shown(&other), format!("is {}, not a list", kind(&other)), "write [\"…\", \"…\"]");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (i, value) in all.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => {
                    let why = format!("is {}, not text", kind(&other));
                    problems.add(format!("{path}[{i}]"), shown(&other), why, "put it in quotes");
                }
            }
        }
        texts
    }

    /// A whole number from 1 up.
    pub fn number(&mut self, key: &'static str, problems: &mut Problems) -> Option<u32> {
        let value = self.take(key)?;
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        if number.is_none() {
            let (why, mend) = match &value {
                Value::Integer(_) => ("is out of range".to_owned(), format!("use a number from 1 to {}", u32::MAX)),
                other => (format!("is {}, not a whole number", kind(other)), "write digits without quotes".to_owned()),
            };
            problems.add(self.path(key), shown(&value), why, mend);
        }
        number
    }

    /// A whole number from 0 up.
    pub fn count(&mut self, key: &'static str, problems: &mut Problems) -> Option<u32> {
        if self.left.get(key).and_then(Value::as_integer) == Some(0) {
            self.take(key);
            return Some(0);
        }
        self.number(key, problems)
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            let why = format!("is {}, neither true nor false", kind(&value));
            problems.add(self.path(key), shown(&value), why, "write true or false without quotes");
        }
        flag
    }

    /// A length of time such as "500ms" or "2s".
    pub fn duration(&mut self, key: &'static str, problems: &mut Problems) -> Option<Duration> {
        let text = self.text(key, problems)?;
        match humantime::parse_duration(&text) {
            Ok(d) if !d.is_zero() => Some(d),
            _ => {
                problems.add(self.path(key), text, "is not a length of time", "write it like \"500ms\" or \"2s\"");
                None
            }
        }
    }

    /// A table under `key`, if present.
    pub fn table(&mut self, key: &'static str, problems: &mut Problems) -> Option<Self> {
        let path = self.path(key);
        as_table(path, self.take(key)?, problems)
    }

    /// The named tables under `key`: `[key.name]`, in order of their names.
    pub fn named(&mut self, key: &'static str, problems: &mut Problems) -> Vec<(String, Self)> {
        let Some(Self { path, left, .. }) = self.table(key, problems) else { return Vec::new() };
        left.into_iter()
            .filter_map(|(name, value)| Some((name.clone(), as_table(format!("{path}.{name}"), value, problems)?)))
            .collect()
    }

    /// The list of tables under `key`: `[[key]]`.
    pub fn list(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Self> {
        let path = self.path(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(all)) => all
                .into_iter()
                .enumerate()
                .filter_map(|(i, value)| as_table(format!("{path}[{i}]"), value, problems))
                .collect(),
            Some(other) => {
                let why = format!("is {}, not a list of tables", kind(&other));
                problems.add(path.clone(), shown(&other), why, format!("write [[{path}]]"));
                Vec::new()
            }
        }
    }

    /// Every `name = "text"` left in this table.
    pub fn texts(mut self, problems: &mut Problems) -> Vec<(String, String)> {
        let left = std::mem::take(&mut self.left);
        left.into_iter()
            .filter_map(|(key, value)| match value {
                Value::String(s) => Some((key, s)),
                other => {
                    let why = format!("is {}, not text", kind(&other));
                    problems.add(self.path(&key), shown(&other), why, "put it in quotes");
                    None
                }
            })
            .collect()
    }

    /// Reports every key that no reader asked for.
    pub fn finish(self, problems: &mut Problems) {
        let known = self.known.join(", ");
        for (key, value) in &self.left {
            problems.add(self.path(key), shown(value), "is not a known key", format!("known here: {known}"));
        }
    }
}

fn as_table(path: String, value: Value, problems: &mut Problems) -> Option<Table> {
    match value {
        Value::Table(left) => Some(Table { path, left, known: Vec::new() }),
        other => {
            let why = format!("is {}, not a table", kind(&other));
            problems.add(path.clone(), shown(&other), why, format!("write [{path}]"));
            None
        }
    }
}

/// The value as a person would say it: what it is, [`kind`] tells.
fn shown(value: &Value) -> String {
    const ENOUGH: usize = 60;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    };
    if text.chars().count() <= ENOUGH { text } else { text.chars().take(ENOUGH).chain(['…']).collect() }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests;
