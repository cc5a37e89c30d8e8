//! Sets of completion indexes as Job status writes them: `0,2-4`.

use std::collections::BTreeSet;

/// A set of completion indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i64>);

impl Indexes {
    /// Reads `0,2-4`, leaving out what is not below `completions`; text that cannot be read is left out.
    pub fn parse(text: &str, completions: i64) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) {
                all.extend(first.max(0)..=last.min(completions - 1));
            }
        }
        Self(all)
    }

    pub fn has(&self, index: i64) -> bool {
        self.0.contains(&index)
    }

    pub fn insert(&mut self, index: i64) {
        self.0.insert(index);
    }

    pub fn len(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> i64 {
        i64::try_from(self.0.intersection(&other.0).count()).unwrap_or(i64::MAX)
    }

    /// Three or more in a row are written as a range.
    pub fn text(&self) -> String {
        let mut parts: Vec<(i64, i64)> = Vec::new();
        for index in &self.0 {
            match parts.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => parts.push((*index, *index)),
            }
        }
        let part = |(first, last): &(i64, i64)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        };
        parts.iter().map(part).collect::<Vec<_>>().join(",")
    }
}

impl FromIterator<i64> for Indexes {
    fn from_iter<I: IntoIterator<Item = i64>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn text_and_back() {
        for (text, completions, back) in
            [("", 5, ""), ("0,2-4", 5, "0,2-4"), ("0,1", 5, "0,1"), ("0-9", 3, "0-2"), ("x,3", 5, "3")]
        {
            assert_eq!(Indexes::parse(text, completions).text(), back, "{text}");
        }
    }
}
