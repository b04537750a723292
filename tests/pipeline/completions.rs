//! `pipe completions`: scripts that shells take.

use std::process::Command;

use crate::project::Project;

#[test]
fn the_bash_script_parses_and_names_the_subcommands() {
    let project = Project::new();
    let script = project.pipe(&["completions", "bash"]).code(0).stdout;
    project.write("pipe.bash", &script);
    let parsed = Command::new("bash").arg("-n").arg(project.path("pipe.bash")).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    // As a shell would ask: what can come after `pipe`?
    let ask = format!("{script}\nCOMP_WORDS=(pipe ''); COMP_CWORD=1; _pipe pipe '' pipe; echo \"${{COMPREPLY[@]}}\"");
    let answer = Command::new("bash").args(["-c", &ask]).output().unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    for command in ["run", "status", "validate", "predict", "schema", "completions", "init"] {
        assert!(answer.split_whitespace().any(|word| word == command), "{command} is not in {answer}");
    }
}

#[test]
fn every_shell_has_a_script() {
    let project = Project::new();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        project.pipe(&["completions", shell]).code(0).prints(&["init"]);
    }
    project.pipe(&["completions", "cmd"]).code(2);
}
