//! From lines of the bundle to lines of the TypeScript that it was made of.
//!
//! The table is text that is only looked at when something has failed. Its first line holds the sources' paths, separated by
//! tabs; line n + 1 is `<index of the source> <line>` for line n of the bundle, or empty.

/// Replaces every `worker.js:LINE:COLUMN` of a stack.
pub fn map(stack: &str, name: &str, table: &str) -> String {
    let marker = format!("{name}:");
    let mut mapped = String::with_capacity(stack.len());
    let mut rest = stack;
    while let Some(at) = rest.find(&marker) {
        mapped.push_str(&rest[..at]);
        rest = &rest[at + marker.len()..];
        let (line, after) = take_number(rest);
        match line.and_then(|line| look_up(line, table)) {
            None => mapped.push_str(&marker),
            Some(place) => {
                mapped.push_str(&place);
                rest = after.strip_prefix(':').map_or(after, |column| take_number(column).1);
            }
        }
    }
    mapped.push_str(rest);
    mapped.trim_end().to_owned()
}

fn look_up(line: usize, table: &str) -> Option<String> {
    let mut lines = table.lines();
    let sources = lines.next()?;
    let (source, line) = lines.nth(line.checked_sub(1)?)?.split_once(' ')?;
    Some(format!("{}:{line}", sources.split('\t').nth(source.parse().ok()?)?))
}

fn take_number(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::map;

    const TABLE: &str = "a.ts\tb.ts\n\n0 7\n1 12\n";

    #[test]
    fn known_lines_are_mapped_and_unknown_ones_stay() {
        let stack = "    at f (worker.js:2:5)\n    at g (worker.js:3)\n    at worker.js:1:1\n    at h (worker.js:99:1)\n    at native\n";
        let mapped = "    at f (a.ts:7)\n    at g (b.ts:12)\n    at worker.js:1:1\n    at h (worker.js:99:1)\n    at native";
        assert_eq!(map(stack, "worker.js", TABLE), mapped);
    }

    #[test]
    fn anything_is_a_stack() {
        for stack in ["", "worker.js:", "worker.js:0:0", "worker.js:99999999999999999999999:1", "é worker.js:2"] {
            map(stack, "worker.js", TABLE);
            map(stack, "worker.js", "");
        }
    }
}
