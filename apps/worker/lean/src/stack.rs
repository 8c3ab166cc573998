//! Stacks told in lines of TypeScript.
//!
//! The line table is text: the first line has the source files, separated by tabs; each further line belongs to the bundle's line
//! of the same number, counted from 1, and is `<index of the source file> <line>` or empty. It is only read when something failed.

/// Appends `[file.ts:line]` to every `name:line:column` of a stack that the table knows.
pub fn mapped(stack: &str, table: &str) -> String {
    let mut rows = table.lines();
    let sources: Vec<&str> = rows.next().unwrap_or("").split('\t').collect();
    let rows: Vec<&str> = rows.collect();
    let mut text = String::new();
    for line in stack.lines() {
        text.push_str(line);
        if let Some(place) = bundle_line(line).and_then(|number| original(&sources, &rows, number)) {
            text.push_str(&format!(" [{place}]"));
        }
        text.push('\n');
    }
    text
}

/// "    at f (worker:12:34)" → 12
fn bundle_line(line: &str) -> Option<usize> {
    let mut parts = line.trim_end_matches(')').rsplit(':');
    parts.next()?.parse::<usize>().ok()?;
    parts.next()?.parse().ok()
}

fn original(sources: &[&str], rows: &[&str], number: usize) -> Option<String> {
    let (source, line) = rows.get(number.checked_sub(1)?)?.split_once(' ')?;
    Some(format!("{}:{line}", sources.get(source.parse::<usize>().ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::mapped;

    const TABLE: &str = "core/a.ts\tcore/b.ts\n0 7\n\n1 40\n";

    #[test]
    fn names_the_file_where_the_table_has_one() {
        assert_eq!(mapped("    at f (worker:3:9)", TABLE), "    at f (worker:3:9) [core/b.ts:40]\n");
    }

    #[test]
    fn leaves_alone_what_it_does_not_know() {
        for line in ["", "    at g (native)", "    at h (worker:2:1)", "    at h (worker:99:1)", "    at h (worker:0:1)", "a:b:c"] {
            assert_eq!(mapped(line, TABLE).trim_end_matches('\n'), line);
        }
    }
}
