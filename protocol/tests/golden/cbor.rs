//! Just enough CBOR to take a frame apart and put it together wrongly.

use std::ops::Range;

/// The head of an item in its shortest form.
pub(crate) fn head(major: u8, value: u64) -> Vec<u8> {
    let size = match value {
        0..=23 => 0,
        24..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    head_of(major, value, size)
}

/// The head of an item with `size` bytes for its value: 0, 1, 2, 4 or 8.
pub(crate) fn head_of(major: u8, value: u64, size: usize) -> Vec<u8> {
    let information = match size {
        0 => value as u8,
        1 => 24,
        2 => 25,
        4 => 26,
        _ => 27,
    };
    let mut head = vec![major << 5 | information];
    head.extend_from_slice(&value.to_be_bytes()[8 - size..]);
    head
}

/// One item of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) major: u8,
    /// Where it is: `[]` is the frame, `[0]` its kind, `[5, 0]` the first item of its sixth.
    pub(crate) path: Vec<u64>,
    /// The number, length or simple value in its head.
    pub(crate) value: u64,
    /// Its head.
    pub(crate) head: Range<usize>,
    /// All of it, the items in it too.
    pub(crate) all: Range<usize>,
}

impl Item {
    pub(crate) fn is_null(&self) -> bool {
        (self.major, self.value) == (7, 22)
    }
}

/// The items of a frame that is right, those in arrays too.
pub(crate) fn items(body: &[u8]) -> Vec<Item> {
    let mut found = Vec::new();
    let end = walk(body, 0, &[], &mut found);
    assert_eq!(end, body.len(), "one item and nothing more");
    found
}

fn walk(body: &[u8], start: usize, path: &[u64], found: &mut Vec<Item>) -> usize {
    let (major, information) = (body[start] >> 5, body[start] & 31);
    let size = match information {
        0..=23 => 0,
        24..=27 => 1 << (information - 24),
        _ => panic!("no head of a right frame"),
    };
    let content = start + 1 + size;
    let number = body[start + 1..content]
        .iter()
        .fold(0, |n, byte| n << 8 | u64::from(*byte));
    let value = if size == 0 {
        information.into()
    } else {
        number
    };
    let at = found.len();
    let all = start..content;
    found.push(Item {
        major,
        path: path.to_vec(),
        value,
        head: all.clone(),
        all,
    });
    let end = match major {
        2 | 3 => content + value as usize,
        4 => (0..value).fold(content, |at, n| {
            walk(body, at, &[path, &[n]].concat(), found)
        }),
        0 | 7 => content,
        _ => panic!("no item of a right frame"),
    };
    found[at].all.end = end;
    end
}

/// `body` with other bytes in the place of `range`.
pub(crate) fn replaced(body: &[u8], range: &Range<usize>, with: &[u8]) -> Vec<u8> {
    [&body[..range.start], with, &body[range.end..]].concat()
}
