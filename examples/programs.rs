//! The examples that end by themselves, run as programs.

use std::env;
use std::process::{Command, Stdio};

#[test]
#[cfg_attr(windows, ignore = "it cuts a Unix socket")]
fn resume_sees_every_number_once() {
    // Tests are in target/PROFILE/deps, examples in target/PROFILE/examples.
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = profile.join("examples").join("resume");
    let output = Command::new(&program)
        .args(["--cuts", "5"])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}{complaint}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    for cut in &lines[..5] {
        assert!(
            cut.contains("recovered true") && cut.ends_with("lost 0"),
            "{cut}"
        );
    }
    let end = lines[5];
    let (published, seen) = end.split_once(" numbers published: ").unwrap();
    assert_eq!(
        seen,
        format!("{published} seen once, 0 twice, 0 never; 0 gaps")
    );
}
