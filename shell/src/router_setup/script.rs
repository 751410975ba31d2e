//! RouterOS commands as text.

use std::fmt::Write as _;

/// A script that can be pasted into a terminal: one command a line, comments between them.
#[derive(Debug, Default)]
pub(super) struct Script {
    text: String,
    blocks: usize,
}

impl Script {
    /// Begins a block and says what it is for.
    pub(super) fn block(&mut self, title: &str, purpose: &[&str]) {
        self.blocks += 1;
        let heading = format!("{}. {title}", self.blocks);
        let _ = writeln!(self.text, "\n# {heading}\n# {}", "-".repeat(heading.chars().count()));
        self.comment(purpose);
    }

    pub(super) fn comment(&mut self, lines: &[&str]) {
        for line in lines {
            let _ = writeln!(self.text, "{}", format!("# {line}").trim_end());
        }
    }

    pub(super) fn command(&mut self, command: &str) {
        self.text.push_str(command);
        self.text.push('\n');
    }

    /// A command that adds something, unless it is there already.
    pub(super) fn add(&mut self, menu: &str, identity: &str, rest: &str) {
        let command = format!("{menu}/add {identity} {rest}");
        self.unless_found(menu, identity, command.trim_end());
    }

    /// Commands that are left out when something is there already.
    pub(super) fn unless_found(&mut self, menu: &str, identity: &str, commands: &str) {
        let condition = format!("[:len [{menu}/find {identity}]] = 0");
        self.only_if(&condition, commands, &format!("{menu} {identity} is there already"));
    }

    /// Commands under a condition; `otherwise` is what is told when they are left out.
    pub(super) fn only_if(&mut self, condition: &str, commands: &str, otherwise: &str) {
        let told = quoted(&format!("{otherwise}; left as it is"));
        self.command(&format!(":if ({condition}) do={{ {commands} }} else={{ :put {told} }}"));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Returns a text as RouterOS takes it literally: in quotes, with escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | b'$' | b'?' => {
                quoted.push('\\');
                quoted.push(char::from(byte));
            }
            b' '..=b'~' => quoted.push(char::from(byte)),
            other => {
                let _ = write!(quoted, "\\{other:02X}");
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_so_that_nothing_in_them_is_a_command() {
        for (text, expected) in [
            ("WAN-Download", r#""WAN-Download""#),
            (r#"a"; /system/reset"#, r#""a\"; /system/reset""#),
            (r"back\slash $var what?", r#""back\\slash \$var what\?""#),
            ("über", r#""\C3\BCber""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn what_is_added_is_looked_for_first() {
        let mut script = Script::default();
        script.add("/queue/tree", "name=\"a\"", "parent=global");
        let expected = ":if ([:len [/queue/tree/find name=\"a\"]] = 0) do={ /queue/tree/add \
                        name=\"a\" parent=global } else={ :put \"/queue/tree name=\\\"a\\\" is \
                        there already; left as it is\" }\n";
        assert_eq!(script.finish(), expected);
    }
}
