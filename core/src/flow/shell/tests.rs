//! What the shell would do, script by script.

use super::*;

/// The contexts of the `@` in a script.
fn at(script: &str) -> Vec<Context> {
    let slots: Vec<_> = script.match_indices('@').map(|(at, _)| at..at + 1).collect();
    contexts(script, &slots)
}

const U: Context = Context::Unquoted;
const Q: Context = Context::Quoted;

fn r(refusal: Refusal) -> Context {
    Context::Refused(refusal)
}

#[test]
fn quotes_of_all_kinds() {
    assert_eq!(at("echo @ --x=@ a@b \"@\" \"a @ b\"@"), [U, U, U, Q, Q, U]);
    assert_eq!(
        at("echo '@' $'@' $'\\'@' \\'@\\'"),
        [r(Refusal::SingleQuotes), r(Refusal::DollarQuotes), r(Refusal::DollarQuotes), U]
    );
    assert_eq!(
        at("echo \\@ \"\\@\" \\\\@ $@ \"$@\" $$@ $?@"),
        [r(Refusal::Backslash), r(Refusal::Backslash), U, r(Refusal::Dollar), r(Refusal::Dollar), U, U]
    );
    assert_eq!(at("echo \"it's @\" 'a\"b' @"), [Q, U]);
}

#[test]
fn substitutions_start_quoting_anew() {
    assert_eq!(
        at("x=$(echo @ \"@\" '@') y=\"$(echo @ \"@\" '@') @\""),
        [U, Q, r(Refusal::SingleQuotes), U, Q, r(Refusal::SingleQuotes), Q]
    );
    assert_eq!(at("echo `echo @ \"@\"` @ \"`echo @`\" @"), [U, Q, U, r(Refusal::Backticks), U]);
    assert_eq!(at("(cd @; ls) @ $( (a @) )"), [U, U, U]);
}

#[test]
fn expansions_allow_words_only() {
    let other = r(Refusal::Expansion);
    assert_eq!(
        at("echo ${x:-@} \"${x:-@}\" ${x#@} \"${x%%@}\" ${x:@} ${x[@]} ${@} ${x:+\"@\"} @"),
        [U, Q, U, U, other, other, other, Q, U]
    );
    assert_eq!(
        at("echo \"${x:-it's @}\" \"${x#'@'}\" ${x:-'@'} ${x:-}} @"),
        [Q, r(Refusal::SingleQuotes), r(Refusal::SingleQuotes), U]
    );
}

#[test]
fn arithmetic_is_refused_but_for_commands_within() {
    let no = r(Refusal::Arithmetic);
    assert_eq!(at("echo $((@ + (1 * @))) @ $(( $(echo @) )) \"$((@))\" @ $[@] @"), [no, no, U, U, no, U, no, U]);
    assert_eq!(at("if (( @ > 1 )); then echo @; fi; for ((i=0; i<@; i++)); do echo @; done"), [no, U, no, U]);
    assert_eq!(at("((a) | b) @"), [U]);
}

/// The contexts are named by their first letters: `.` is allowed.
fn kinds(script: &str) -> String {
    let kind = |context: &Context| match context {
        Context::Refused(Refusal::DoubleBrackets) => 'D',
        Context::Refused(Refusal::Subscript) => 'S',
        Context::Refused(Refusal::Evaluated) => 'E',
        Context::Refused(Refusal::Code) => 'C',
        Context::Refused(Refusal::Format) => 'F',
        Context::Refused(_) => '?',
        Context::Unquoted | Context::Quoted => '.',
    };
    at(script).iter().map(kind).collect()
}

#[test]
fn what_builtins_evaluate_is_refused() {
    for (script, expected) in [
        ("[[ @ -eq 0 ]] && echo @", "D."),
        ("if [[ -n \"$(echo @)\" && ( a < @ ||\n! @ ) ]]; then echo @; fi", "DDD."),
        ("let x=@; let \"x=@\"; let x=$(echo @); echo @", "EEE."),
        ("l\"e\"t x=@; \\let x=@; builtin let x=@; command -p let x=@; A=1 let x=@; >f let x=@", "EEEEEE"),
        ("2>f let x=@ 2>&1 >@ y=@; let x=1 &>@ y=@; {fd}>f let x=@", "E.E.EE"),
        ("f() { let x=@; }; function g { let x=@; }; (let x=@) & ! let x=@ | let x=@", "EEEEE"),
        ("for i in @; do let x=@; done; case @ in a) let x=@;; (b) let x=@; esac", ".E.EE"),
        ("x=`let y=@`; let\\\n y=@\necho let @", "EE."),
        ("b[@]=1; b[0]=@; x=1 b[@]+=1; \"b\"[@]=1; echo b[@]", "S.SS."),
        ("b=([@]=1 [2]=@ @); declare -A m=([@]=1)", "S..S"),
        ("declare -i x=@; typeset -gi x=@; local $o x=@; declare @ x=1; declare x[@]=1; declare -n x=@", "EEEESE"),
        ("declare x=@; declare -r -x x=@ y=@; local a b=@; readonly c=\"@\"; export D=@ E=x@; export @", ".......E"),
        ("declare -i x=(@); declare -a x=@; read @; read x < @; read x <<< @; unset @; wait @", "EEE..EE"),
        ("printf -v @ x; printf -v@ x; printf @; printf \"@\\n\"; printf -v x %s @; printf '%s' @ @", "EFFF..."),
        ("printf -- '' -v @; test -v @; [ -v @ ]; [ a = b -o -v @ ]; [ @ @ ]; [ @ = @ ]; test -n @", "EEEE.E..."),
        ("eval \"echo @\"; trap \"rm @\" EXIT; eval echo $(echo @)", "CCC"),
        ("RANDOM=@; x=@ y=@ cmd @; PS4=@", "E...E"),
        ("cmd --read @ read @; git read @; # let @\necho @ > @ 2>&1", "......"),
    ] {
        assert_eq!(kinds(script), expected, "{script}");
    }
}

#[test]
fn comments_end_at_the_newline() {
    assert_eq!(at("echo a # it's @\necho @ a#'b' @"), [Q, U, U]);
    assert_eq!(at("echo @# 'x' @"), [U, U]);
}

#[test]
fn what_looks_like_a_comment_may_be_part_of_a_word() {
    assert_eq!(at("echo a\\ #b @ $((@))"), [U, r(Refusal::Arithmetic)]);
    assert_eq!(at("echo a\\\n#b @\necho \\\n#b @"), [U, Q]);
    assert_eq!(at("echo $(date)#@ `date`#@ $((1))#@ <(date)#@"), [U, U, U, U]);
    assert_eq!(at("(cd x)# @\n((1))# @\ncase x in x)# @"), [Q, Q, Q]);
}

#[test]
fn backticks_end_before_anything_in_them_does() {
    assert_eq!(at("echo `date # now` @ `echo 'a` @"), [U, U]);
    assert_eq!(at("echo `echo @ \\\\@ @` @"), [U, r(Refusal::Backticks), r(Refusal::Backticks), U]);
    assert_eq!(at("echo `cat <<E\n` @\nE\n@"), [r(Refusal::Backticks), r(Refusal::Backticks)]);
}

#[test]
fn constructs_that_are_split_over_lines_are_refused() {
    for script in ["echo $(\\\n(@))", "echo \"$\\\n((@))\"", "(\\\n(@))", "cat <\\\n<E\n@\nE"] {
        assert_eq!(at(script), [r(Refusal::Backslash)], "{script}");
    }
}

#[test]
fn here_documents_in_all_forms() {
    let no = r(Refusal::QuotedHereDocument);
    assert_eq!(at("cat <<E @\n@ it's $(echo @) \\@\nE\necho @"), [U, Q, U, r(Refusal::Backslash), U]);
    for quoted in ["<<'E'", "<<\"E\"", "<<\\E", "<< 'E'", "<<''E"] {
        assert_eq!(at(&format!("cat {quoted}\n@\nE\necho @")), [no, U], "{quoted}");
    }
    assert_eq!(at("cat <<-E\n\t@\n\tE\necho @"), [Q, U]);
    assert_eq!(at("cat <<E\na\\\nE\n@ '\nE\n@"), [Q, U], "a line may go on on the next");
    assert_eq!(at("x=$(cat <<E\n@\nE)\n@"), [r(Refusal::Unended), r(Refusal::Unended)]);
    assert_eq!(at("cat <<A <<'B' @\n@\nA\n@\nB\n@"), [U, Q, no, U]);
    assert_eq!(at("x=$(cat <<E\n@ )\nE\n) @"), [Q, U]);
    assert_eq!(at("cat <<<@ <<@\n"), [U, r(Refusal::Delimiter)]);
    assert_eq!(at("echo $((1<<2)) '@'"), [r(Refusal::SingleQuotes)]);
}

#[test]
fn patterns_of_case_have_a_lone_parenthesis() {
    assert_eq!(at("x=\"$(case @ in a) echo @;; (b) echo \"@\";; esac) @\" @"), [U, U, Q, Q, U]);
    assert_eq!(at("case x in esac; (a) @"), [U]);
    assert_eq!(at("\"$(echo case) @\""), [Q]);
    assert_eq!(at("\"$(case a in\n a|b) (x);;\n esac) @\""), [Q]);
}

#[test]
fn what_is_in_a_slot_does_not_count() {
    let script = "cat <<E\n[\nE\n' ] it's\nE\necho [\"] '[$(]'";
    let slots: Vec<_> = script.match_indices('[').map(|(at, _)| at..at + script[at..].find(']').unwrap() + 1).collect();
    assert_eq!(contexts(script, &slots), [Q, U, r(Refusal::SingleQuotes)]);
}

#[test]
fn depth_is_bounded() {
    let deep = format!("{}@", "$(".repeat(100_000));
    assert_eq!(at(&deep), [r(Refusal::Nesting)]);
    let here = format!("{}@", "$(cat <<E\n".repeat(10_000));
    assert_eq!(at(&here).len(), 1);
}
