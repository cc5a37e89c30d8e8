//! Where the last lines of a file begin.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes read at a time, backwards.
const BLOCK: u64 = 64 << 10;

/// The offset of the `count`-th line from the end of `file`, and how many lines lie behind it if there are fewer.
pub fn start(file: &mut (impl Read + Seek), count: usize) -> io::Result<(u64, usize)> {
    let length = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok((length, 0));
    }
    let mut end = length;
    let mut seen = 0;
    let mut buffer = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        buffer.clear();
        file.by_ref().take(end - begin).read_to_end(&mut buffer)?;
        for (index, byte) in buffer.iter().enumerate().rev() {
            let at = begin + index as u64;
            // The newline that ends the last line begins none.
            if *byte == b'\n' && at + 1 < length {
                seen += 1;
                if seen == count {
                    return Ok((at + 1, count));
                }
            }
        }
        end = begin;
    }
    Ok((0, if length > 0 { seen + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_lines() {
        for (text, count, want) in [
            ("a\nb\nc\n", 1, (4, 1)),
            ("a\nb\nc\n", 2, (2, 2)),
            ("a\nb\nc\n", 3, (0, 3)),
            ("a\nb\nc\n", 9, (0, 3)),
            ("a\nb\nc", 1, (4, 1)),
            ("a\nb\n", 0, (4, 0)),
            ("", 3, (0, 0)),
        ] {
            assert_eq!(start(&mut io::Cursor::new(text), count).unwrap(), want, "{text:?} {count}");
        }
    }
}
