//! What derives from the command line's definition: shell completions and the command reference.

use std::fmt::Write;

use clap::Command;

/// Prints completions for a shell.
pub fn print(shell: clap_complete::Shell, command: &mut Command) {
    clap_complete::generate(shell, command, "mizzen", &mut std::io::stdout());
}

/// The command reference as Markdown.
pub fn reference(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut out = String::from("# Command reference\n\nGenerated from the program's own help by `cargo xtask fix`.\n");
    section(&command, "mizzen", &mut out);
    out
}

fn section(command: &Command, path: &str, out: &mut String) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(out, "\n## `{path}`\n\n{about}\n");
    let flags: Vec<_> = command
        .get_arguments()
        .filter(|a| !a.is_hide_set() && a.get_id() != "help" && a.get_id() != "version")
        .collect();
    if !flags.is_empty() {
        out.push_str("\n| argument | meaning |\n| --- | --- |\n");
    }
    for flag in flags {
        let value = flag.get_value_names().and_then(|n| n.first()).map(|n| format!(" {n}")).unwrap_or_default();
        let name = match flag.get_long() {
            Some(long) if flag.get_action().takes_values() => format!("--{long}{value}"),
            Some(long) => format!("--{long}"),
            None => value.trim().to_string(),
        };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        let _ = writeln!(out, "| `{name}` | {help} |");
    }
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        section(sub, &format!("{path} {}", sub.get_name()), out);
    }
}
