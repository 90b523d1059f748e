//! Which types of events a reader wants.

use std::fmt;

use super::EventKind;
use crate::limits::PATTERNS_MAX;

/// A set of event types, from patterns such as `template_*,block_found`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFilter {
    kinds: u64,
}

/// Why a filter makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A pattern that no event can match: most likely a typing error.
    #[error("no event matches {pattern:?}")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// Too many patterns.
    #[error("{actual} patterns, at most {PATTERNS_MAX} are allowed")]
    TooMany {
        /// How many there are.
        actual: usize,
    },
}

impl EventFilter {
    /// Every event.
    pub const ALL: Self = Self { kinds: u64::MAX };

    /// These kinds only.
    pub fn only(kinds: &[EventKind]) -> Self {
        Self { kinds: kinds.iter().fold(0, |set, kind| set | bit(*kind)) }
    }

    /// From a list of names with commas between them; `*` at the end of a name stands for anything.
    /// An empty list stands for every event.
    ///
    /// # Errors
    /// [`FilterError`]: a pattern that matches nothing, or too many of them.
    pub fn parse(list: &str) -> Result<Self, FilterError> {
        let patterns: Vec<_> =
            list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
        if patterns.is_empty() {
            return Ok(Self::ALL);
        }
        if patterns.len() > PATTERNS_MAX {
            return Err(FilterError::TooMany { actual: patterns.len() });
        }
        let mut kinds = 0;
        for pattern in patterns {
            let matching = EventKind::ALL.iter().filter(|kind| matches(pattern, kind.as_str()));
            let set = matching.fold(0, |set, kind| set | bit(*kind));
            if set == 0 {
                return Err(FilterError::NoMatch { pattern: pattern.to_owned() });
            }
            kinds |= set;
        }
        Ok(Self { kinds })
    }

    /// Whether the reader wants events of that kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.kinds & bit(kind) != 0
    }
}

impl Default for EventFilter {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("*");
        }
        let wanted = EventKind::ALL.iter().filter(|kind| self.wants(**kind));
        for (index, kind) in wanted.enumerate() {
            write!(f, "{}{kind}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn bit(kind: EventKind) -> u64 {
    1 << kind as u32
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_kinds() {
        let filter = EventFilter::parse("template_*, block_found").unwrap();
        assert!(filter.wants(EventKind::TemplateAccepted));
        assert!(filter.wants(EventKind::TemplateInvalidated));
        assert!(filter.wants(EventKind::BlockFound));
        assert!(!filter.wants(EventKind::BlockSubmitted));
        assert_eq!(EventFilter::parse(&filter.to_string()).unwrap(), filter);
        assert!(EventFilter::parse("*").unwrap().wants(EventKind::NodeStatus));
        assert_eq!(EventFilter::parse(" ").unwrap(), EventFilter::ALL);
        assert_eq!(EventFilter::ALL.to_string(), "*");
    }

    #[test]
    fn what_matches_nothing_is_an_error() {
        let error = EventFilter::parse("block_found,tmplate_*").unwrap_err();
        assert_eq!(error, FilterError::NoMatch { pattern: "tmplate_*".into() });
        let many = ["block_found"; PATTERNS_MAX + 1].join(",");
        assert!(matches!(EventFilter::parse(&many), Err(FilterError::TooMany { .. })));
    }

    #[test]
    fn kinds_fit_the_set() {
        assert!(EventKind::ALL.len() <= 64);
    }
}
