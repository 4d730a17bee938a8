//! Rust text apart: code with blanks for comments and literals, and the string literals.

use super::Source;

pub(crate) struct Scanned {
    /// As long as the text, line for line.
    pub(crate) code: String,
    /// Line (from 1) and content of every string literal.
    pub(crate) strings: Vec<(usize, String)>,
}

/// Scans what is not a test: the text up to a test module at its end, nothing of a test file.
pub(crate) fn production(source: &Source<'_>) -> Scanned {
    if is_test(source.path) {
        return scan("");
    }
    let end = source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
    scan(&source.text[..end])
}

fn is_test(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    path.contains("/tests/")
        || path.contains("/simulation/")
        || ["tests", "simulation"].contains(&stem)
}

pub(crate) fn scan(text: &str) -> Scanned {
    let mut scanned = Scanned { code: String::with_capacity(text.len()), strings: Vec::new() };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest, &scanned.code);
        if length == 0 {
            scanned.code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (taken, after) = rest.split_at(length);
        if let Some(content) = string_content(taken) {
            let line = scanned.code.matches('\n').count() + 1;
            scanned.strings.push((line, content.to_owned()));
        }
        scanned.code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    scanned
}

/// How many bytes at the beginning are a comment or a string, byte or character literal.
fn literal_or_comment(rest: &str, before: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let in_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let prefix = if in_word { 0 } else { rest.len() - rest.trim_start_matches(['b', 'c']).len() };
    let quoted = &rest[prefix.min(1)..];
    let prefix = rest.len() - quoted.len();
    if quoted.starts_with('"') {
        return prefix + end_of_escaped(quoted, '"');
    }
    let hashes = quoted.strip_prefix('r').filter(|_| !in_word).map(|after| {
        (after.len() - after.trim_start_matches('#').len(), after.trim_start_matches('#'))
    });
    if let Some((hashes, content)) = hashes.filter(|(_, content)| content.starts_with('"')) {
        let closing = format!("\"{}", "#".repeat(hashes));
        let opening = prefix + 1 + hashes + 1;
        return content[1..].find(&closing).map_or(rest.len(), |end| opening + end + closing.len());
    }
    // 'a' and '\n' are literals, 'a alone is a lifetime.
    let mut characters = rest.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('\''), Some('\\'), _) => end_of_escaped(rest, '\''),
        (Some('\''), Some(one), Some('\'')) => 2 + one.len_utf8(),
        _ => 0,
    }
}

/// Of a literal that begins with the quote.
fn end_of_escaped(literal: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in literal.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    literal.len()
}

fn string_content(literal: &str) -> Option<&str> {
    let open = literal.find('"')?;
    let is_string = literal[..open].chars().all(|c| "bcr#".contains(c));
    is_string.then(|| literal[open + 1..].trim_end_matches('#').trim_end_matches('"'))
}

/// Line (from 1) of every occurrence of a path or word that isn't part of a longer one.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: usize| {
        !code[..at].ends_with(part_of_word) && !code[at + word.len()..].starts_with(part_of_word)
    };
    code.match_indices(word)
        .filter(|(at, _)| whole(*at))
        .map(|(at, _)| code[..at].matches('\n').count() + 1)
        .collect()
}

#[test]
fn comments_and_literals_are_no_code() {
    let text =
        "a // b\nc(\"d \\\" e\", r#\"f \" g\"#, b\"h\", 'i', '\\'', '\"', &'j k) /* l\n */ m";
    let scanned = scan(text);
    let words: Vec<&str> = scanned.code.split_whitespace().collect();
    assert_eq!(words.join(" "), "a c( , , , , , , &'j k) m");
    let strings: Vec<&str> = scanned.strings.iter().map(|(_, string)| string.as_str()).collect();
    assert_eq!(strings, ["d \\\" e", "f \" g", "h"]);
    assert!(scanned.strings.iter().all(|(line, _)| *line == 2));
    assert_eq!(scanned.code.lines().count(), text.lines().count());
}

#[test]
fn a_test_module_at_the_end_is_left_out() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}";
    let code = production(&Source { path: "broker/src/x.rs", text }).code;
    assert!(code.contains("fn a") && !code.contains("fn b"));
    assert!(production(&Source { path: "broker/tests/x.rs", text }).code.is_empty());
}
