//! What a request for a stream asks for, in its query.

/// Most words of a command.
const COMMAND_WORDS_MAX: usize = 4096;
/// Most ports of a request.
const PORTS_MAX: usize = 100;

/// The options of exec, attach, run and port-forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    /// Never with `tty`: a terminal has one output.
    pub(super) stderr: bool,
    pub(super) tty: bool,
    pub(super) command: Vec<String>,
    /// `/run` names its command in one string.
    pub(super) cmd: String,
    /// As written: [`super::port_forward::check`] judges them.
    pub(super) ports: Vec<String>,
}

impl Options {
    /// Reads a query; what is unknown is ignored. Both the kubelet's names and the API's are understood.
    pub(super) fn parse(query: &str) -> Self {
        let mut options = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decode(value);
            let set = matches!(value.as_str(), "1" | "true");
            match decode(name).as_str() {
                "input" | "stdin" => options.stdin = set,
                "output" | "stdout" => options.stdout = set,
                "error" | "stderr" => options.stderr = set,
                "tty" => options.tty = set,
                "command" if options.command.len() < COMMAND_WORDS_MAX => options.command.push(value),
                "cmd" => options.cmd = value,
                "ports" | "port" if options.ports.len() <= PORTS_MAX => {
                    options.ports.extend(value.split(',').map(str::to_owned));
                }
                _ => {}
            }
        }
        options.stderr &= !options.tty;
        options
    }

    /// Whether an exec or attach can be done with these.
    pub(super) fn check(&self, exec: bool) -> Result<(), &'static str> {
        if exec && self.command.is_empty() {
            return Err("you must specify at least 1 command");
        }
        if !self.stdin && !self.stdout && !self.stderr {
            return Err("you must specify at least 1 of stdin, stdout, stderr");
        }
        Ok(())
    }
}

/// Takes back `%` escapes and `+`. What is no escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let all = Options::parse("input=1&output=1&error=1&command=sh&command=-c&command=echo+%22a%26b%22+%2B1");
        assert_eq!(all.command, ["sh", "-c", "echo \"a&b\" +1"]);
        assert!(all.stdin && all.stdout && all.stderr && !all.tty);
        let tty = Options::parse("stdin=true&stdout=true&stderr=true&tty=true&x=y&junk");
        assert!(tty.stdin && tty.stdout && tty.tty && !tty.stderr);
        assert_eq!(Options::parse("ports=80&ports=443,22").ports, ["80", "443", "22"]);
        assert_eq!(Options::parse("cmd=a%zz%4").cmd, "a%zz%4");
    }

    #[test]
    fn something_must_be_asked_for() {
        assert!(Options::parse("output=1").check(true).is_err());
        assert!(Options::parse("command=true").check(true).is_err());
        assert_eq!(Options::parse("command=true&output=1").check(true), Ok(()));
        assert_eq!(Options::parse("input=1").check(false), Ok(()));
    }

    #[test]
    fn lists_are_bounded() {
        assert_eq!(Options::parse(&"command=x&".repeat(COMMAND_WORDS_MAX * 2)).command.len(), COMMAND_WORDS_MAX);
    }
}
