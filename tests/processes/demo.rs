//! The demo.

use super::*;

#[test]
fn it_runs_real_processes_and_leaves_none() {
    let folder = private_directory();
    let mut command = command(LOCALHUB.as_ref(), folder.path());
    let output = command
        .args(["demo", "--seconds", "5", "--json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert!(summary.is_object(), "{text}");
}
