//! Which file takes what from which other: the modules under a root, and the paths that each of them names.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::{Token, tokens};

/// Where a path begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    /// At the root of the crate.
    Root,
    /// At another crate.
    Crate,
}

/// A path from its beginning on.
type Path = (Start, Vec<String>);

/// A name that a `use` brings into a module.
#[derive(Debug)]
struct Binding {
    target: Path,
    /// It is handed on to others. It counts as an import only where the module itself uses the name.
    is_public: bool,
}

/// One file.
#[derive(Debug)]
struct Module {
    file: String,
    names: Vec<String>,
    children: BTreeSet<String>,
    bindings: BTreeMap<String, Binding>,
    /// The paths that are written out in the code.
    paths: Vec<Vec<String>>,
    /// The macros that it exports.
    macros: BTreeSet<String>,
    /// What it uses by name, beside what its `use` says: types, and functions that it calls.
    used: BTreeSet<String>,
}

/// What each file takes from which other one: (who takes, from whom) to the names.
pub type Imports = BTreeMap<(String, String), BTreeSet<String>>;

/// The imports between the files of a crate, which are named from its folder of sources on.
///
/// A file is read if modules lead to it from `lib.rs`, tests left out. An import is each path that a file names, by `use` or in
/// its code, and it leads to the file where the item stands: a module on the way that only hands the item on is none. What is
/// not seen is a method's: whoever calls one has imported its type, or got it from somebody who did.
///
/// # Errors
///
/// Says which module has no file.
pub fn imports(files: &BTreeMap<String, String>) -> Result<Imports, String> {
    let mut modules = BTreeMap::new();
    let mut left = vec![Vec::new()];
    while let Some(names) = left.pop() {
        let module = read(files, &names)?;
        left.extend(module.children.iter().map(|child| [names.as_slice(), std::slice::from_ref(child)].concat()));
        modules.insert(names, module);
    }
    let mut imports = Imports::new();
    for module in modules.values() {
        let bound = module.bindings.iter().filter(|(name, binding)| !binding.is_public || module.used.contains(*name));
        let written = module.paths.iter().filter_map(|path| absolute(module, path));
        for path in bound.map(|(_, binding)| binding.target.clone()).chain(written) {
            let Some((file, item)) = item(&modules, &path, 0) else { continue };
            if file != module.file {
                imports.entry((module.file.clone(), file)).or_default().insert(item);
            }
        }
    }
    Ok(imports)
}

/// The file in which the item of a path stands, and its name: none for a module and for what is another crate's.
fn item(modules: &BTreeMap<Vec<String>, Module>, (start, names): &Path, hops: usize) -> Option<(String, String)> {
    match start {
        Start::Crate => {
            let (first, behind) = names.split_first()?;
            let (_, place) = CRATES.iter().find(|(name, _)| name == first)?;
            let names = place.iter().map(|name| (*name).to_owned()).chain(behind.iter().cloned()).collect();
            return item(modules, &(Start::Root, names), hops + 1);
        }
        Start::Root => {}
    }
    let depth = (0..=names.len()).rev().find(|&depth| modules.contains_key(&names[..depth]))?;
    let module = &modules[&names[..depth]];
    let Some((name, behind)) = names[depth..].split_first() else {
        // A module may hand on an item that is called as one of its modules is.
        let (last, above) = names.split_last()?;
        let binding = modules.get(above)?.bindings.get(last).filter(|_| hops < 16)?;
        return item(modules, &binding.target, hops + 1);
    };
    // A macro that is exported is called by the crate's root, and stands where it is written.
    if let Some(module) = modules.values().find(|module| depth == 0 && module.macros.contains(name)) {
        return Some((module.file.clone(), name.clone()));
    }
    match module.bindings.get(name) {
        Some(binding) if hops < 16 => {
            let (start, target) = &binding.target;
            item(modules, &(start.clone(), [target.as_slice(), behind].concat()), hops + 1)
        }
        Some(_) | None => Some((module.file.clone(), name.clone())),
    }
}

/// The crates of the workspace, each with the module that it is here.
pub const CRATES: &[(&str, &[&str])] = &[
    ("tenantd_core", &[]),
    ("tenantd_gateway", &["gateway"]),
    ("tenantd_host", &["host"]),
    ("tenantd_ingress", &["ingress"]),
    ("tenantd_journal", &["journal"]),
    ("tenantd_suffix", &["suffix"]),
];

/// A path as its module means it: none for what begins with a name of the file's own, such as a type.
fn absolute(module: &Module, path: &[String]) -> Option<Path> {
    let (first, behind) = path.split_first()?;
    let within = |names: &[String]| Some((Start::Root, [names, behind].concat()));
    match first.as_str() {
        "crate" => {
            let is_root = |place: &[&str]| place.first() == module.names.first().map(String::as_str).as_ref();
            let is_crate = CRATES.iter().any(|(_, place)| is_root(place));
            within(if is_crate { &module.names[..1] } else { &[] })
        }
        "self" => within(&module.names),
        "super" => {
            let up = path.iter().take_while(|name| *name == "super").count();
            let above = module.names.len().checked_sub(up)?;
            Some((Start::Root, [&module.names[..above], &path[up..]].concat()))
        }
        first if module.children.contains(first) => Some((Start::Root, [&module.names, path].concat())),
        first => match module.bindings.get(first) {
            Some(binding) => Some((binding.target.0.clone(), [&binding.target.1, behind].concat())),
            None if first.starts_with(char::is_lowercase) => Some((Start::Crate, path.to_vec())),
            None => None,
        },
    }
}

fn read(files: &BTreeMap<String, String>, names: &[String]) -> Result<Module, String> {
    let base = names.join("/");
    let places = match names {
        [] => vec!["lib.rs".to_owned()],
        [..] => vec![format!("{base}.rs"), format!("{base}/mod.rs")],
    };
    let file = places.into_iter().find(|place| files.contains_key(place));
    let file = file.ok_or_else(|| format!("module {} has no file", names.join("::")))?;
    let tokens = tokens(&files[&file]);
    let mut module = Module {
        file,
        names: names.to_vec(),
        children: BTreeSet::new(),
        bindings: BTreeMap::new(),
        paths: Vec::new(),
        macros: BTreeSet::new(),
        used: BTreeSet::new(),
    };
    let mut uses = Vec::new();
    let mut is_public = false;
    let mut here = 0;
    while here < tokens.len() {
        match &tokens[here..] {
            [Token::Word(word), ..] if word == "use" => {
                let end = (here..tokens.len()).find(|&at| tokens[at] == Token::Mark(';')).unwrap_or(tokens.len());
                let mut leaves = Vec::new();
                tree(&mut tokens[here + 1..end].iter().peekable(), &[], &mut leaves);
                uses.extend(leaves.into_iter().map(|leaf| (leaf, is_public)));
                (here, is_public) = (end, false);
            }
            [Token::Word(word), Token::Word(child), Token::Mark(';'), ..] if word == "mod" => {
                module.children.insert(child.clone());
                here += 2;
            }
            [Token::Word(word), Token::Mark('!'), Token::Word(name), ..] if word == "macro_rules" => {
                let export = [Token::Word("macro_export".to_owned()), Token::Mark(']')];
                if tokens[..here].ends_with(&export) {
                    module.macros.insert(name.clone());
                }
            }
            [Token::Word(_), Token::Colons, ..] => {
                let path = path(&tokens[here..]);
                here += 2 * path.len() - 1;
                module.used.extend(path.first().cloned());
                module.paths.push(path);
                continue;
            }
            [Token::Word(word), ..] => {
                // `pub(crate) use` has words between the two, which `pub` outlasts.
                is_public = word == "pub" || is_public && matches!(word.as_str(), "crate" | "super" | "self" | "in");
                let is_method = here.checked_sub(1).is_some_and(|before| tokens[before] == Token::Mark('.'));
                let is_called = matches!(tokens.get(here + 1), Some(Token::Mark('(' | '!'))) && !is_method;
                if is_called || word.starts_with(char::is_uppercase) {
                    module.used.insert(word.clone());
                }
            }
            [Token::Mark('(' | ')'), ..] => {}
            [..] => is_public = false,
        }
        here += 1;
    }
    for ((name, path), is_public) in uses {
        let target = absolute(&module, &path).unwrap_or((Start::Crate, path));
        module.bindings.insert(name, Binding { target, is_public });
    }
    Ok(module)
}

/// The names of a path that stands at the beginning of tokens.
fn path(tokens: &[Token]) -> Vec<String> {
    let mut names: Vec<String> = tokens[0].word().map(str::to_owned).into_iter().collect();
    let mut rest = &tokens[1..];
    while let [Token::Colons, Token::Word(name), behind @ ..] = rest {
        names.push(name.clone());
        rest = behind;
    }
    names
}

/// Takes a `use` tree apart into (name, path).
fn tree<'a>(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a Token>>,
    before: &[String],
    leaves: &mut Vec<(String, Vec<String>)>,
) {
    let mut names = before.to_vec();
    let mut alias = None;
    while let Some(token) = tokens.peek() {
        match token {
            Token::Mark(',' | '}') => break,
            Token::Mark('{') => {
                tokens.next();
                while tokens.next_if(|token| **token == Token::Mark('}')).is_none() && tokens.peek().is_some() {
                    tree(tokens, &names, leaves);
                    tokens.next_if(|token| **token == Token::Mark(','));
                }
                return;
            }
            Token::Word(word) if word == "as" => {
                tokens.next();
                alias = tokens.next().and_then(Token::word).map(str::to_owned);
                continue;
            }
            // `a::{self, b}` names `a`.
            Token::Word(word) if word == "self" && !names.is_empty() => {}
            Token::Word(word) => names.push(word.clone()),
            Token::Colons | Token::Mark(_) => {}
        }
        tokens.next();
    }
    if let Some(name) = alias.or_else(|| names.last().cloned()) {
        leaves.push((name, names));
    }
}
