//! What `docs/protocol.md` says in tables is what the code does.

use std::collections::BTreeSet;
use std::path::Path;

use localhub_protocol::{Code, ContentType, Limits, PREFIX_BYTES, Version, kind, limits};

use crate::cbor::{Item, items};
use crate::frames::sender_of;
use crate::source;
use crate::vectors::{self, Sender, hex_of};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

/// The rows of the table whose head begins with these columns, cell by cell.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = DOCUMENT.lines();
    lines
        .find(|line| line.starts_with(head))
        .unwrap_or_else(|| panic!("no table {head}"));
    assert!(
        lines.next().is_some_and(|line| line.starts_with("| ---")),
        "{head}"
    );
    lines
        .map_while(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

/// The text in a cell that is all code.
fn code(cell: &str) -> &str {
    let inner = cell
        .strip_prefix('`')
        .and_then(|cell| cell.strip_suffix('`'));
    inner.unwrap_or_else(|| panic!("no code: {cell}"))
}

fn number(cell: &str) -> u64 {
    cell.replace(',', "")
        .parse()
        .unwrap_or_else(|_| panic!("no number: {cell}"))
}

#[test]
fn the_kinds_are_those_of_the_code() {
    let rows = table("| kind | name | sender |");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row[1].replace('-', "_"), number(row[0])))
        .collect();
    assert_eq!(found, source::kinds());
    for row in rows {
        let number = number(row[0]);
        let sender = match row[2] {
            "both" => Sender::Both,
            "broker" => Sender::Broker,
            "client" => Sender::Client,
            other => panic!("no sender: {other}"),
        };
        assert_eq!(sender_of(number), Some(sender), "{}", row[1]);
        let counted = if kind::is_counted(number) {
            "yes"
        } else {
            "no"
        };
        assert_eq!(row[3], counted, "{}", row[1]);
        assert_eq!(code(row[4]), shape(row[1], number), "{}", row[1]);
    }
}

/// The items of a kind behind the kind itself, from the CDDL, on one line.
fn shape(name: &str, kind: u64) -> String {
    let cddl = include_str!("../../../docs/protocol.cddl");
    let start = format!("\n{name} = [");
    let (_, rule) = cddl
        .split_once(&start)
        .unwrap_or_else(|| panic!("no rule {name}"));
    let without_comments: Vec<_> = rule
        .lines()
        .map(|line| line.split(';').next().unwrap_or(line).trim())
        .collect();
    let mut depth = 1;
    let is_end = |c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        depth == 0
    };
    let text = without_comments.join(" ");
    let end = text
        .find(is_end)
        .unwrap_or_else(|| panic!("no end of {name}"));
    let items = text[..end].trim().trim_end_matches(',');
    let first = format!("kind: {kind}, ");
    items
        .strip_prefix(&first)
        .unwrap_or_else(|| panic!("{name} does not begin with {first}"))
        .into()
}

#[test]
fn the_codes_are_those_of_the_code() {
    let rows = table("| code | name | meaning |");
    let found: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1])).collect();
    let known: Vec<_> = Code::ALL
        .iter()
        .map(|code| (code.0.into(), code.name()))
        .collect();
    assert_eq!(found, known);
}

#[test]
fn the_codes_of_mistakes_are_those_that_decoding_gives() {
    let rows = table("| what is wrong | code |");
    let mut found: BTreeSet<_> = rows.iter().map(|row| code(row[1]).to_uppercase()).collect();
    // 3.3 has the one that is about the prefix.
    found.insert("FRAME_TOO_LARGE".to_owned());
    let given: BTreeSet<_> = source::decoding_codes()
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(found, given);
}

#[test]
fn the_limits_are_those_of_the_code() {
    let rows = table("| limit | value |");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (code(row[0]), number(row[1]) as usize))
        .collect();
    let known = [
        ("HELLO_BYTES_MAX", limits::HELLO_BYTES_MAX),
        ("HEADER_BYTES_MAX", limits::HEADER_BYTES_MAX),
        ("PAYLOAD_BYTES_MAX_FLOOR", limits::PAYLOAD_BYTES_MAX_FLOOR),
        (
            "PAYLOAD_BYTES_MAX_CEILING",
            limits::PAYLOAD_BYTES_MAX_CEILING,
        ),
        ("CHANNEL_NAME_BYTES_MAX", limits::CHANNEL_NAME_BYTES_MAX),
        ("CLIENT_NAME_BYTES_MAX", limits::CLIENT_NAME_BYTES_MAX),
        ("TOPIC_BYTES_MAX", limits::TOPIC_BYTES_MAX),
        ("TOPIC_LEVELS_MAX", limits::TOPIC_LEVELS_MAX),
        ("PRESENCE_STATE_BYTES_MAX", limits::PRESENCE_STATE_BYTES_MAX),
        ("DETAIL_BYTES_MAX", limits::DETAIL_BYTES_MAX),
        ("FEATURES_MAX", limits::FEATURES_MAX),
        ("MEMBERS_PER_FRAME_MAX", limits::MEMBERS_PER_FRAME_MAX),
        ("WILLS_MAX", limits::WILLS_MAX),
        ("METHOD_BYTES_MAX", limits::METHOD_BYTES_MAX),
        ("DESCRIPTION_BYTES_MAX", limits::DESCRIPTION_BYTES_MAX),
    ];
    assert_eq!(found, known);
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        source::limits(),
        "a constant of limits.rs is not in the document"
    );
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let rows = table("| limit | default |");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (code(row[0]), number(row[1])))
        .collect();
    let Limits {
        payload_bytes,
        outbox_bytes,
        outbox_messages,
        channels,
        subscriptions,
    } = Limits::default();
    let known = [
        ("payload_bytes", payload_bytes),
        ("outbox_bytes", outbox_bytes),
        ("outbox_messages", outbox_messages),
        ("channels", channels),
        ("subscriptions", subscriptions),
    ];
    assert_eq!(found, known);
}

#[test]
fn the_content_types_are_those_of_the_code() {
    for (n, row) in table("| content type | name |").into_iter().enumerate() {
        assert_eq!(number(row[0]), n as u64);
        assert_eq!(ContentType(n as u16).name(), row[1]);
    }
    let next = table("| content type | name |").len() as u16;
    assert_eq!(
        ContentType(next).name(),
        "unknown",
        "a content type is not in the document"
    );
}

#[test]
fn the_admin_methods_are_those_of_the_code() {
    let found: Vec<_> = table("| method | arguments |")
        .iter()
        .map(|row| code(row[0]))
        .collect();
    assert_eq!(found, source::admin_methods());
}

#[test]
fn the_version_is_that_of_the_code() {
    let title = format!(
        "# The wire protocol of localhub, version {}",
        Version::CURRENT
    );
    assert_eq!(DOCUMENT.lines().next(), Some(title.as_str()));
    assert!(DOCUMENT.contains(&format!("This is {}.", Version::CURRENT)));
}

/// The numbers of the sections and rules, in the order of the document.
fn rules() -> Vec<String> {
    let section = |line: &'static str| line.strip_prefix("## ")?.split(' ').next();
    let rule = |line: &'static str| Some(line.strip_prefix("**")?.split_once("** ")?.0);
    DOCUMENT
        .lines()
        .filter_map(|line| section(line).or_else(|| rule(line)))
        .filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_are_numbered_without_a_hole() {
    let (mut section, mut rule) = (0, 0);
    for found in rules() {
        if found.contains('.') {
            rule += 1;
            assert_eq!(found, format!("{section}.{rule}"));
        } else {
            (section, rule) = (section + 1, 0);
            assert_eq!(found, section.to_string());
        }
    }
    assert!(section > 15, "only {section} sections");
}

#[test]
fn rules_that_the_document_names_exist() {
    let rules: BTreeSet<_> = rules().into_iter().collect();
    let mut named = 0;
    for inside in DOCUMENT
        .split('(')
        .skip(1)
        .filter_map(|text| text.split(')').next())
    {
        for reference in inside.split(", ") {
            let reference = reference.strip_prefix("section ").unwrap_or(reference);
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if reference.contains('.') && reference.split('.').all(digits) {
                assert!(rules.contains(reference), "there is no rule {reference}");
                named += 1;
            }
        }
    }
    assert!(named > 40, "only {named} references");
}

#[test]
fn rules_that_the_promises_name_exist() {
    let rules: BTreeSet<_> = rules().into_iter().collect();
    let promises = include_str!("../../../docs/promises.md");
    let words = promises.split(|c: char| !c.is_ascii_digit() && c != '.');
    let named: Vec<_> = words
        .map(|word| word.trim_matches('.'))
        .filter(|word| word.contains('.'))
        .collect();
    assert!(named.len() > 20, "only {} references", named.len());
    for rule in named {
        assert!(rules.contains(rule), "there is no rule {rule}");
    }
}

#[test]
fn rules_that_the_source_names_exist() {
    let rules: BTreeSet<_> = rules().into_iter().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = 0;
    for part in ["protocol", "broker", "client", "examples", "tests"] {
        for file in sources(&root.join(part)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for rest in text.split("protocol.md ").skip(1) {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit() && c != '.')
                    .unwrap_or(rest.len());
                let rule = rest[..end].trim_end_matches('.');
                if !rule.is_empty() {
                    assert!(rules.contains(rule), "{}: no rule {rule}", file.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > 5, "only {named} references");
}

/// The Rust files below a directory.
fn sources(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    let (directories, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let is_rust = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "rs");
    let below = directories.iter().filter(|path| !path.ends_with("target"));
    files
        .into_iter()
        .filter(is_rust)
        .chain(below.flat_map(|path| sources(path)))
        .collect()
}

// protocol.md 21
#[test]
fn the_session_is_the_one_of_the_vectors() {
    let mut expected = String::new();
    for said in vectors::session() {
        let sender = if said.sender == Sender::Client {
            "client"
        } else {
            "broker"
        };
        let body = &said.wire[PREFIX_BYTES..];
        expected += &format!("{sender}: {}\n", said.note);
        expected += &format!("  {}\n", diagnostic(body, &mut items(body).into_iter()));
        let hex = hex_of(&said.wire);
        for line in hex.as_bytes().chunks(96) {
            expected += &format!("  {}\n", str::from_utf8(line).unwrap());
        }
    }
    let section = DOCUMENT
        .split_once("## 21 ")
        .expect("the section of the session")
        .1;
    let found = section
        .split("```text\n")
        .nth(1)
        .and_then(|text| text.split("```").next());
    assert!(
        found == Some(&expected),
        "the session of the document should be\n{expected}"
    );
}

/// A frame in the diagnostic notation of RFC 8949 section 8.
fn diagnostic(body: &[u8], rest: &mut impl Iterator<Item = Item>) -> String {
    let item = rest.next().expect("one more item");
    let content = &body[item.head.end..item.all.end];
    match item.major {
        0 => item.value.to_string(),
        2 => format!("h'{}'", hex_of(content)),
        3 => format!("{:?}", str::from_utf8(content).unwrap()),
        4 => {
            let items: Vec<_> = (0..item.value).map(|_| diagnostic(body, rest)).collect();
            format!("[{}]", items.join(", "))
        }
        _ => match item.value {
            20 => "false".into(),
            21 => "true".into(),
            _ => "null".into(),
        },
    }
}
