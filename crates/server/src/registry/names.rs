//! Generated names (api-facts §3.1).

use rand::Rng;

/// Letters of generated suffixes: no vowels, no digits that look like letters, so no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a suffix.
const SUFFIX: usize = 5;
/// Longest base that is kept, so that the whole fits a DNS label of 63.
const BASE_MAX: usize = 58;

/// Five random characters.
pub(crate) fn suffix() -> String {
    let mut rng = rand::rng();
    (0..SUFFIX).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// A name from a `generateName`.
pub(crate) fn generate(base: &str) -> String {
    let cut =
        base.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= BASE_MAX).last().unwrap_or(0);
    format!("{}{}", &base[..cut], suffix())
}

/// A random UUID (version 4) from the thread's generator: no system call for each.
pub(crate) fn random_uuid() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid()
}

/// A fresh UID.
pub(crate) fn uid() -> String {
    random_uuid().to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_fit_a_label() {
        let name = super::generate("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(super::generate(&"a".repeat(80)).len(), 63);
    }
}
