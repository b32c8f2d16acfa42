//! Mistakes are collected, not thrown: whoever wrote the file hears of all of them at once.

use std::fmt;

use crate::config::v1::Problem;

/// Every mistake found so far, in the order of the document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes one mistake: where, what stands there, why it cannot be, what to do.
    pub fn add(
        &mut self,
        path: impl Into<String>,
        value: impl fmt::Display,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Problem { path: path.into(), value: value.to_string(), why: why.into(), mend: mend.into() });
    }

    /// One mistake alone.
    pub fn one(
        path: impl Into<String>,
        value: impl fmt::Display,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let mut all = Self::default();
        all.add(path, value, why, mend);
        all
    }

    /// Takes over what a later check found; where a path is already known to be wrong, the first word stands.
    pub fn extend(&mut self, later: Self) {
        for p in later.0 {
            if !self.0.iter().any(|known| known.path == p.path) {
                self.0.push(p);
            }
        }
    }

    /// Takes over what someone else found at the same time; two may find the same path wrong for their own reasons.
    pub fn append(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes as messages.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    /// `Ok` if nothing is wrong.
    ///
    /// # Errors
    /// The mistakes, if there are any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Vec<Problem>> for Problems {
    fn from(all: Vec<Problem>) -> Self {
        Self(all)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", p.path)?;
            if !p.value.is_empty() {
                write!(f, " = {:?}", p.value)?;
            }
            write!(f, ": {}", p.why)?;
            if !p.mend.is_empty() {
                write!(f, "; {}", p.mend)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
