#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

struct World {
    parameters: Parameters,
    env: Environment,
}

impl World {
    fn new(parameters: serde_json::Value) -> World {
        let serde_json::Value::Object(parameters) = parameters else { panic!("a map") };
        World { parameters, env: Environment::from([("HOME".to_owned(), "/home/me".to_owned())]) }
    }

    fn scope(&self) -> Scope<'_> {
        let (parameters, env) = (&self.parameters, &self.env);
        Scope { env, attempt: 2, ..Scope::of_parameters(parameters) }
    }

    fn text(&self, template: &str) -> Result<String, String> {
        let template = Template::parse(template, &mut Known::new(self.parameters.clone()))
            .map_err(|flaws| flaws[0].message.clone())?;
        template.evaluate(&self.scope()).map_err(|error| error.reason)
    }

    fn script(&self, script: &str) -> (String, Vec<(String, String)>) {
        Script::parse(script, "sh", &mut Known::new(self.parameters.clone())).unwrap().evaluate(&self.scope()).unwrap()
    }
}

#[test]
fn texts_are_raw_and_all_else_is_json() {
    let world = World::new(json!({"s": "a b", "n": 7, "f": 1.5, "b": true, "z": null, "l": [1, "x"], "m": {"k": [2]}}));
    let cases = [
        ("${{ parameters.s }}", "a b"),
        ("<${{parameters.n}}/${{ parameters.f }}>", "<7/1.5>"),
        ("${{ parameters.b }} ${{ parameters.z }}", "true null"),
        ("${{ parameters.l }}", "[1,\"x\"]"),
        ("${{ parameters.m }} ${{ parameters.m.k[0] }}", "{\"k\":[2]} 2"),
        ("${{ attempt * 100 + index }} ${{ splits }}", "200 1"),
        ("${{ env.HOME }}", "/home/me"),
        ("${{ env.NOPE | default('none') }}", "none"),
        ("${{ '${{' }} ${{ {'a': {'b': '}}'}}['a']['b'] }}", "${{ }}"),
        ("${{ parameters.l | join('-') }} ${{ parameters.s | upper | replace('A', 'aa') }}", "1-x aa B"),
        ("$ { ${ {{ }} }", "$ { ${ {{ }} }"),
    ];
    for (template, text) in cases {
        assert_eq!(world.text(template).as_deref(), Ok(text), "{template}");
    }
    assert_eq!(world.text("${{ execution.id }}").unwrap().len(), 32);
    let nope = Template::parse("${{ env.NOPE }}", &mut Known::default()).unwrap().evaluate(&world.scope()).unwrap_err();
    assert!(nope.to_string().ends_with("is not set (set it, or write `${{ env.NOPE | default('') }}`)"), "{nope}");
}

#[test]
fn what_cannot_be_evaluated_says_why() {
    let world = World::new(json!({"m": {}, "nul": "a\u{0}b", "long": "x".repeat(200_000), "list": vec![1; 100_000]}));
    for (template, reason) in [
        ("${{ parameters.m.x }}", "undefined"),
        ("${{ parameters.m.x.y }}", "undefined"),
        ("${{ env.NOPE }}", "the environment variable `NOPE` is not set"),
        ("${{ parameters.nul }}", "NUL"),
        ("${{ parameters.long }}", "200000 bytes"),
        ("${{ parameters.list }}", "128 KiB"),
        ("${{ 1 / 0 }}", "1 / 0"),
        ("${{ 1e308 * 10 }}", "its value is not a finite number"),
        ("${{ [1, {'a': 1e308 * 10}] }}", "`[1][\"a\"]` of its value is not a finite number"),
    ] {
        let said = world.text(template).unwrap_err();
        assert!(said.contains(reason), "{template}: {said}");
    }
}

#[test]
fn evaluation_is_bounded() {
    let world = World::new(json!({"s": "x".repeat(10_000), "l": vec!["y"; 1000]}));
    let squares = format!("${{{{ parameters.s{} }}}}", " | replace('x', parameters.s)".repeat(20));
    let hostile = [
        "${{ 'x' * 10**12 }}",
        "${{ ['x'] * 10**12 }}",
        "${{ ['x'] * 10**12 | join }}",
        "${{ ([0] * 100000) * 100000 | length }}",
        "${{ ([0] * 100000) * 100000 | list | length }}",
        "${{ ([0] * 100000) * 100000 | sum }}",
        "${{ (([0] * 1000000) * 1000000) | sort | first }}",
        "${{ 2 ** 100000 }}",
        "${{ range(10**9) | list }}",
        "${{ parameters.l | join(parameters.s) | replace('', parameters.s) }}",
        &squares,
    ];
    let repeated = [
        "(1",
        "-1",
        "1 +",
        "1 **",
        "not ",
        "1 if 1 else ",
        "[",
        "{1:",
        "x|abs",
        "|abs",
        "[0]",
        ".a",
        "1 in ",
        "1 ~",
        "1<",
    ];
    let repeated = repeated.iter().flat_map(|part| {
        [100, 600, 1900, 50_000].into_iter().flat_map(move |length| {
            let repeated = part.repeat(length / part.len());
            [format!("${{{{ 1{repeated} }}}}"), format!("${{{{ {repeated} }}}}")]
        })
    });
    let ended: Vec<String> = repeated.flat_map(|text| [text.replace(" }}", " 1 }}"), text]).collect();
    for template in hostile.into_iter().chain(ended.iter().map(String::as_str)) {
        let start = std::time::Instant::now();
        let _ = world.text(template);
        assert!(start.elapsed().as_secs() < 5, "{} took {:?}", &template[..60.min(template.len())], start.elapsed());
    }
}

/// Runs a script with its values and gives back what it printed.
fn run(script: &str, values: &[(String, String)], shell: &[&str]) -> Vec<u8> {
    let mut command = std::process::Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).env_clear().env("PATH", std::env::var("PATH").unwrap());
    let output = command.envs(values.iter().cloned()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Places for one word; `printf` shows where each word ends.
const PLACES: [&str; 22] = [
    "printf '%s\\0' @",
    "printf '%s\\0' \"@\"",
    "x=@; printf '%s\\0' \"$x\"",
    "x=\"@\"; printf '%s\\0' \"$x\"",
    "printf '%s\\0' ${nope:-@}",
    "printf '%s\\0' \"${nope:-@}\"",
    "printf '%s\\0' \"${nope-a}\" @ | { IFS= read -r _ || true; }; printf '%s\\0' @",
    "(printf '%s\\0' @)",
    "f() { printf '%s\\0' \"$1\"; }; f @",
    "case @ in \"@\") printf '%s\\0' @;; *) echo broken;; esac",
    "for x in @; do printf '%s\\0' \"$x\"; done",
    "set -- @; [ $# = 1 ] && printf '%s\\0' \"$1\"",
    "# a comment, it's @\nprintf '%s\\0' @",
    "if true; then printf '%s\\0' @; fi",
    "printf '%s\\0' \"$(printf '%s.' @)\" | sed 's/\\.\\x00$/\\x00/'",
    "printf '%s\\0' \"$(printf '%s.' \"@\")\" | sed 's/\\.\\x00$/\\x00/'",
    "x=$(case a in a) printf '%s.' @;; esac); printf '%s\\0' \"${x%.}\"",
    "x=`printf '%s.' @`; printf '%s\\0' \"${x%.}\"",
    "x=`printf '%s.' \"@\"`; printf '%s\\0' \"${x%.}\"",
    "x=$(cat <<E\n@.\nE\n); printf '%s\\0' \"${x%.}\"",
    "x=$(cat <<-E\n\t@.\n\tE\n); printf '%s\\0' \"${x%.}\"",
    "printf '%s\\0' 'a\"'@'\"b' | sed '1s/^a\"//; $s/\"b\\x00$/\\x00/'",
];

fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "'",
        "\"",
        "`",
        "$(echo gone)",
        "${HOME}",
        "$$",
        "\\",
        "\n",
        " ",
        "\t",
        "*",
        "?",
        "[a-z]",
        "~",
        "-n",
        "--help",
        "é",
        "日",
        ";",
        "&",
        "|",
        "<",
        ">",
        "(",
        ")",
        "{",
        "}",
        "#",
        "!",
        "%s",
        "\\0",
        "E",
        "\nE\n",
        "${{ x }}",
        "a",
        "\u{7f}",
        "\r",
        "=",
    ];
    let piece = prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), "[^\\x00]"];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_arrives_as_one_unchanged_word(value in hostile(), place in proptest::sample::select(PLACES.to_vec())) {
        let world = World::new(json!({ "value": value }));
        let (script, values) = world.script(&place.replace('@', "${{ parameters.value }}"));
        prop_assert!(!script.contains("parameters"));
        let printed = run(&script, &values, &["sh", "-e", "-c"]);
        let expected = format!("{value}\0");
        prop_assert_eq!(String::from_utf8_lossy(&printed), expected, "{}", script);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\\n]{0,60}", more in "(\\$\\{\\{|\\}\\}|'|\"|`|\\$\\(|\\)|<<E\n|E\n|\\\\|\\$\\{|\\}|é|index| ){0,20}") {
        for text in [&text, &more, &format!("{text}{more}"), &format!("{more}{text}")] {
            for flaw in Script::parse(text, "sh", &mut Known::default()).err().into_iter().flatten() {
                prop_assert!(text.get(flaw.span).is_some());
            }
            let _ = Template::parse(text, &mut Known::default());
        }
    }
}

#[test]
fn every_place_takes_a_hostile_value_in_every_shell() {
    let value = "it's \"a\" `b` $(touch broken) ${HOME} \\ * ; rm -rf / &\n  two  é -n";
    let world = World::new(json!({ "value": value }));
    for shell in [
        &["sh", "-e", "-c"][..],
        &["dash", "-e", "-c"],
        &["bash", "-euo", "pipefail", "-c"],
        &["bash", "--posix", "-c"],
    ] {
        if std::process::Command::new(shell[0]).arg("-c").arg(":").output().is_err() {
            continue;
        }
        for place in PLACES {
            let (script, values) = world.script(&place.replace('@', "${{ parameters.value }}"));
            let printed = String::from_utf8(run(&script, &values, shell)).unwrap();
            assert_eq!(printed, format!("{value}\0"), "{shell:?} {script}");
        }
    }
}

#[test]
fn nothing_breaks_out() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("broken");
    let touch = format!("touch {}", target.display());
    for value in [
        format!("; {touch}"),
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("'; {touch}; '"),
        format!("\"; {touch}; \""),
        format!("\n{touch}\n"),
        format!("\nE\n{touch}\n"),
        format!("}}; {touch}; {{"),
        format!("a[$({touch})]"),
        format!(")) {touch}"),
    ] {
        let world = World::new(json!({ "value": value }));
        for place in PLACES {
            let (script, values) = world.script(&place.replace('@', "${{ parameters.value }}"));
            run(&script, &values, &["sh", "-e", "-c"]);
            assert!(!target.exists(), "{value} broke out of {script}");
        }
    }
}

/// What bash evaluates, a hostile value would run: each of these does if a reference is put there, and so it is refused.
#[test]
fn what_bash_evaluates_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("broken");
    let hostile = format!("a[$(touch {})]", target.display());
    let world = World::new(json!({ "value": hostile }));
    if std::process::Command::new("bash").arg("-c").arg(":").output().is_err() {
        return;
    }
    let bash = |script: &str, value: &str| {
        let mut command = std::process::Command::new("bash");
        command.args(["-c", script]).env("LAMINAR_VALUE_1", value).current_dir(&folder).output().unwrap();
        std::fs::remove_file(&target).is_ok()
    };
    for place in [
        "[[ @ -eq 0 ]]",
        "let x=@",
        "b[@]=1",
        "b=([@]=1)",
        "declare -i x=@",
        "typeset -i x=@",
        "f() { local -i x=@; }; f",
        "declare b[@]=1",
        "test -v @",
        "[ -v @ ]",
        "printf -v @ x",
        "read @ <<< x",
        "a=(); unset @",
        "RANDOM=@",
        "eval x=1 @",
        "trap \": @\" EXIT",
    ] {
        let reference = place.replace('@', "${LAMINAR_VALUE_1}");
        let quoted = place.replace('@', "\"${LAMINAR_VALUE_1}\"");
        assert!(bash(&reference, &hostile) || bash(&quoted, &hostile), "harmless after all: {place}");
        let script = place.replace('@', "${{ parameters.value }}");
        assert!(Script::parse(&script, "bash", &mut Known::new(world.parameters.clone())).is_err(), "{place}");
    }
    for place in [
        "[ @ = y ]",
        "[ @ -eq 0 ]",
        "printf '%s' @",
        "printf -v x '%s' @",
        "export X=@; declare -r Y=@",
        "f() { local x=@; }; f",
        "read -r x <<< @",
        "b[0]=@; c=(@ @)",
        "case @ in @) ;; esac; for x in @; do echo @; done > /dev/null",
    ] {
        let (script, values) = world.script(&place.replace('@', "${{ parameters.value }}"));
        assert!(!bash(&script, &values[0].1), "{place} broke out");
    }
}

/// The hints rely on it.
#[test]
fn int_gives_a_number_or_fails() {
    let world = World::new(json!({ "bad": "a[$(x)]", "also": "1+a", "good": " 12", "float": "1.5" }));
    for name in ["bad", "also"] {
        assert!(world.text(&format!("${{{{ parameters.{name} | int }}}}")).is_err(), "{name}");
    }
    for name in ["good", "float"] {
        let said = world.text(&format!("${{{{ parameters.{name} | int }}}}"));
        assert!(said.is_err() || said.as_ref().is_ok_and(|said| said.parse::<i64>().is_ok()), "{said:?}");
    }
}

#[test]
fn equal_expressions_share_a_variable() {
    let world = World::new(json!({ "a": 1, "b": 2 }));
    let (script, values) = world.script("${{ parameters.a }} \"${{parameters.b}}\" ${{parameters.a}}");
    assert_eq!(script, "\"${LAMINAR_VALUE_1}\" \"${LAMINAR_VALUE_2}\" \"${LAMINAR_VALUE_1}\"");
    assert_eq!(values, [("LAMINAR_VALUE_1".into(), "1".into()), ("LAMINAR_VALUE_2".into(), "2".into())]);
}

#[test]
fn expressions_are_checked_before_anything_runs() {
    let world = World::new(json!({ "seed": 1 }));
    for (text, message) in [
        ("${{ parameters.sede }}", "there is no parameter `sede`"),
        ("${{ parameters.seed | nofilter }}", "unknown filter `nofilter`"),
        ("${{ range(3) }}", "unknown name `range`"),
        ("${{ 1 + }}", "cannot read the expression `1 +`: "),
        ("a ${{ b", "this expression is not closed"),
        ("${{ }}", "an empty expression"),
    ] {
        let said = world.text(text).unwrap_err();
        assert!(said.starts_with(message), "{said}");
    }
}
