//! The values of literal tokens.

/// The text of a string literal with its quotes and escapes, or what is wrong with it.
pub(super) fn string(token: &str) -> Result<String, &'static str> {
    let (body, raw) = unquote(token);
    if raw {
        return Ok(body.to_owned());
    }
    let mut text = String::with_capacity(body.len());
    unescape(body, |part| match part {
        Part::Char(char) | Part::Point(char) => text.push(char),
        // In a string, \x and octal escapes are code points.
        Part::Byte(byte) => text.push(char::from(byte)),
    })?;
    Ok(text)
}

/// The same of a bytes literal.
pub(super) fn bytes(token: &str) -> Result<Vec<u8>, &'static str> {
    let (body, raw) = unquote(token.trim_start_matches(['b', 'B']));
    if raw {
        return Ok(body.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut unicode = false;
    unescape(body, |part| match part {
        Part::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        Part::Point(_) => unicode = true,
        Part::Byte(byte) => bytes.push(byte),
    })?;
    if unicode { Err("unable to unescape string") } else { Ok(bytes) }
}

fn unquote(token: &str) -> (&str, bool) {
    let body = token.trim_start_matches(['r', 'R']);
    let raw = body.len() < token.len();
    let open = if body.len() >= 6 && (body.starts_with("\"\"\"") || body.starts_with("'''")) { 3 } else { 1 };
    (&body[open..body.len() - open], raw)
}

enum Part {
    Char(char),
    Point(char),
    Byte(u8),
}

fn unescape(body: &str, mut emit: impl FnMut(Part)) -> Result<(), &'static str> {
    const WRONG: &str = "unable to unescape string";
    let mut rest = body;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != '\\' {
            emit(Part::Char(char));
            continue;
        }
        let escape = rest.chars().next().ok_or(WRONG)?;
        rest = &rest[escape.len_utf8()..];
        let mut digits = |count: usize, radix: u32| {
            let digits = rest.get(..count).filter(|digits| digits.chars().all(|char| char.is_digit(radix)));
            rest = rest.get(count..).unwrap_or_default();
            digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()).ok_or(WRONG)
        };
        emit(match escape {
            'a' => Part::Char('\u{7}'),
            'b' => Part::Char('\u{8}'),
            'f' => Part::Char('\u{c}'),
            'n' => Part::Char('\n'),
            'r' => Part::Char('\r'),
            't' => Part::Char('\t'),
            'v' => Part::Char('\u{b}'),
            '\\' | '\'' | '"' | '`' | '?' => Part::Char(escape),
            'x' | 'X' => Part::Byte(digits(2, 16)? as u8),
            'u' => Part::Point(char::from_u32(digits(4, 16)?).ok_or(WRONG)?),
            'U' => Part::Point(char::from_u32(digits(8, 16)?).ok_or(WRONG)?),
            '0'..='3' => {
                let low = digits(2, 8)?;
                Part::Byte((escape.to_digit(8).unwrap_or_default() * 64 + low) as u8)
            }
            _ => return Err(WRONG),
        });
    }
    Ok(())
}

/// The value of an integer literal, decimal or hexadecimal.
pub(super) fn int(token: &str, negative: bool) -> Option<i64> {
    let magnitude = i128::from(uint(token)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// The value of an unsigned literal, its suffix left out or not.
pub(super) fn uint(token: &str) -> Option<u64> {
    let digits = token.trim_end_matches(['u', 'U']);
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}
