//! The scripts that ask the program.

use clap_complete::Shell;

/// The script for a shell, where the program answers it itself; `None` where clap writes a fixed one.
pub(crate) fn script(shell: Shell, program: &str) -> Option<String> {
    let text = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => return None,
    };
    let function: String = program.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Some(text.replace("{function}", &function).replace("{program}", program))
}

const BASH: &str = r#"_{function}() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _{function} {program}
"#;

const ZSH: &str = r#"#compdef {program}
_{function}() {
    local line
    local -a found shown
    for line in "${(@f)$("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n "$line" ]] || continue
        found+=("${line%%$'\t'*}")
        shown+=("${line//$'\t'/  -- }")
    done
    if (( ${#found} )); then
        compadd -l -d shown -a found
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == "_{function}" ]]; then
    _{function} "$@"
else
    compdef _{function} {program}
fi
"#;

const FISH: &str = r#"function __{function}_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c {program} -f -a '(__{function}_complete)'
"#;
