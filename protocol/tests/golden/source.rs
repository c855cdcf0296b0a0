//! What the source of the crate says, where the compiler cannot be asked.

/// The kinds of `kind.rs`: name, in small letters, and number.
pub(crate) fn kinds() -> Vec<(String, u64)> {
    let kinds: Vec<_> = include_str!("../../src/kind.rs")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("pub const ")?
                .strip_suffix(';')?
                .split_once(": u64 = ")
        })
        .filter(|(name, _)| *name != "FIRST_COUNTED")
        .map(|(name, number)| {
            (
                name.to_lowercase(),
                number.parse().expect("a kind is a number"),
            )
        })
        .collect();
    assert!(
        kinds.len() > 20,
        "kind.rs looks different from what this test reads"
    );
    kinds
}

/// The names of the constants of `limits.rs`.
pub(crate) fn limits() -> Vec<&'static str> {
    let limits: Vec<_> = include_str!("../../src/limits.rs")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("pub const ")?.split_once(": usize = ")?.0))
        .collect();
    assert!(
        limits.len() > 5,
        "limits.rs looks different from what this test reads"
    );
    limits
}

/// The names of the codes that decoding can give, from `error.rs`.
pub(crate) fn decoding_codes() -> Vec<&'static str> {
    let codes: Vec<_> = include_str!("../../src/error.rs")
        .lines()
        .filter_map(|line| line.split_once("=> Code::")?.1.strip_suffix(','))
        .collect();
    assert!(
        codes.len() > 3,
        "error.rs looks different from what this test reads"
    );
    codes
}

/// The methods of `admin.rs`.
pub(crate) fn admin_methods() -> Vec<&'static str> {
    include_str!("../../src/admin.rs")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("pub const ")?
                .split_once(": &str = \"")?
                .1
                .strip_suffix("\";")
        })
        .collect()
}
