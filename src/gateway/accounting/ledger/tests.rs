use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use proptest::{prelude::*, sample::Index};

use super::*;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const MAY: &str = "2026-05-10T12:00:00Z";

fn ant() -> TenantName {
    "ant".parse().unwrap_or_else(|_| unreachable!())
}

fn crm() -> RouteName {
    "crm".parse().unwrap_or_else(|_| unreachable!())
}

fn budget(day: u64, month: u64) -> Budget {
    Budget { day: Some(day), month: Some(month) }
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// Ends a ledger, and opens what it left.
fn reopened(folder: &Path, ledger: Ledger) -> Result<Ledger> {
    block_on(ledger.flush())??;
    drop(ledger);
    opened(folder)
}

/// The thread of one that has just ended may hold the lock for another moment.
fn opened(folder: &Path) -> Result<Ledger> {
    for _ in 0..500 {
        match Ledger::open(folder) {
            Err(LedgerError::Locked(_)) => thread::sleep(Duration::from_millis(10)),
            other => return Ok(other?),
        }
    }
    Err("it stays locked".into())
}

fn used(book: &Book, time: &str) -> Result<(u64, u64)> {
    Ok(book.used_in(&ant(), day(time.parse()?)))
}

#[test]
fn what_is_reserved_is_settled_refunded_or_spent() -> Result {
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::open(folder.path())?;
    let reserve =
        |credits| block_on(ledger.reserve(&ant(), &crm(), credits, budget(100, 1000), MAY.parse().unwrap_or_default()));
    let mut less = reserve(10)??;
    less.begin();
    less.settle(3);
    let mut more = reserve(10)??;
    more.begin();
    more.settle(25);
    reserve(10)??.refund();
    drop(reserve(10)??);
    let mut spent = reserve(10)??;
    spent.begin();
    drop(spent);
    assert_eq!(used(&ledger.book(), MAY)?, (38, 38));
    let mut open = reserve(10)??;
    open.begin();
    assert!(!open.observe(40));
    let before = ledger.book();
    assert_eq!(used(&before, MAY)?, (78, 78));
    // The process ends here, as after a kill: nothing is settled any more.
    std::mem::forget(open);
    block_on(ledger.flush())??;
    let book = read(folder.path())?;
    assert_eq!(book, before);
    Ok(())
}

#[test]
fn a_budget_is_given_once_a_day_and_once_a_month_whichever_way_the_clock_goes() -> Result {
    let folder = tempfile::tempdir()?;
    let mut ledger = Ledger::open(folder.path())?;
    let spend = |ledger: &Ledger, time: &str, credits| -> Result<bool> {
        let reserved = block_on(ledger.reserve(&ant(), &crm(), credits, budget(10, 25), time.parse()?))?;
        Ok(reserved.map(|mut reservation| reservation.begin()).is_ok())
    };
    for (time, credits, is_given) in [
        ("2026-05-10T23:59:59Z", 10, true),
        ("2026-05-10T23:59:59Z", 1, false),
        ("2026-05-11T00:00:00Z", 10, true),
        ("2026-05-10T23:00:00Z", 1, false),
        ("2026-05-12T00:00:00Z", 6, false),
        ("2026-05-12T00:00:00Z", 5, true),
        ("2026-05-13T00:00:00Z", 1, false),
        ("2026-06-01T00:00:00Z", 10, true),
        ("2026-05-31T00:00:00Z", 1, false),
        ("2026-06-01T00:00:00Z", 1, false),
    ] {
        assert_eq!(spend(&ledger, time, credits)?, is_given, "{time} {credits}");
        ledger = reopened(folder.path(), ledger)?;
    }
    let left = |time: &str| -> Result<Option<u64>> { Ok(ledger.left(&ant(), budget(10, 25), time.parse()?)) };
    assert_eq!((left("2026-06-01T00:00:00Z")?, left("2026-06-02T00:00:00Z")?), (Some(0), Some(10)));
    assert_eq!(ledger.left(&ant(), Budget::default(), MAY.parse()?), None);
    Ok(())
}

#[test]
fn days_long_past_have_no_budget_of_their_own() -> Result {
    let mut book = Book::default();
    let first: Date = "2026-01-01".parse()?;
    let mut last = first;
    for id in 0..100 {
        last = first.checked_add(jiff::Span::new().days(i64::try_from(id)?))?;
        book.apply(&LedgerEntry::Reserve { id, tenant: ant(), route: crm(), day: last, credits: 1 });
    }
    assert_eq!(book.day(&ant(), last), last);
    let oldest = book.day(&ant(), first);
    assert_eq!(oldest, last.checked_sub(jiff::Span::new().days(61))?);
    assert_eq!(book.left(&ant(), Budget { day: Some(1), month: None }, oldest), Some(0));
    assert_eq!(book.credits(None).values().sum::<u64>(), 100);
    let mut again = Book::default();
    book.entries().for_each(|entry| again.apply(&entry));
    assert_eq!(again, book);
    Ok(())
}

#[test]
fn more_than_is_left_is_never_reserved_by_many_at_once() -> Result {
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::open(folder.path())?;
    let given = block_on(async {
        let (ant, crm) = (ant(), crm());
        let calls = (0..100).map(|_| ledger.reserve(&ant, &crm, 3, budget(50, 1000), MAY.parse().unwrap_or_default()));
        let mut reserved = futures_util::future::join_all(calls).await;
        reserved.retain_mut(|one| one.as_mut().map(Reservation::begin).is_ok());
        reserved.len()
    })?;
    assert_eq!((given, used(&ledger.book(), MAY)?), (16, (48, 48)));
    Ok(())
}

/// What is done with the ledger, one after the other.
#[derive(Clone, Debug)]
enum Act {
    Reserve(u64),
    Raise(Index, u64),
    Settle(Index, u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0..50_u64).prop_map(Act::Reserve),
        (any::<Index>(), 0..80_u64).prop_map(|(at, credits)| Act::Raise(at, credits)),
        (any::<Index>(), 0..80_u64).prop_map(|(at, credits)| Act::Settle(at, credits)),
    ];
    proptest::collection::vec(act, 1..8)
}

/// The entries of these acts, with the sum that counts after each if everything ends there.
fn history(acts: &[Act], day: Date) -> Vec<(LedgerEntry, u64)> {
    let (mut open, mut sum, mut next, mut history) = (Vec::<(u64, u64)>::new(), 0, 0, Vec::new());
    for act in acts {
        let entry = match act {
            Act::Reserve(credits) => {
                open.push((next, *credits));
                sum += credits;
                next += 1;
                LedgerEntry::Reserve { id: next - 1, tenant: ant(), route: crm(), day, credits: *credits }
            }
            Act::Raise(..) | Act::Settle(..) if open.is_empty() => continue,
            Act::Raise(at, credits) => {
                let (id, held) = at.get_mut(&mut open);
                sum += credits.saturating_sub(*held);
                *held = (*held).max(*credits);
                LedgerEntry::Raise { id: *id, credits: *credits }
            }
            Act::Settle(at, credits) => {
                let (id, held) = open.remove(at.index(open.len()));
                sum = sum + credits - held;
                LedgerEntry::Settle { id, credits: *credits }
            }
        };
        history.push((entry, sum));
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Whatever part of what was written is on the disk, the sum is that of the whole entries, it
    /// stays so however often the ledger is opened, and the ledger goes on.
    #[test]
    fn a_crash_after_any_byte_loses_nothing_that_was_written(acts in acts()) {
        let day: Date = "2026-05-10".parse().unwrap_or_default();
        let history = history(&acts, day);
        let folder = tempfile::tempdir().unwrap_or_else(|e| unreachable!("{e}"));
        let path = folder.path().join("ledger");
        let mut file = open_file(folder.path(), u64::MAX)?;
        let mut lengths = vec![(fs::metadata(&path).map_or(0, |m| m.len()), 0)];
        for (entry, sum) in &history {
            prop_assert!(file.append(&[entry]).is_ok());
            lengths.push((fs::metadata(&path).map_or(0, |m| m.len()), *sum));
        }
        drop(file);
        let written = fs::read(&path).unwrap_or_default();
        for cut in 0..=written.len() {
            let whole = lengths.iter().rev().find(|(length, _)| *length <= cut as u64).map_or(0, |(_, sum)| *sum);
            prop_assert!(fs::write(&path, &written[..cut]).is_ok());
            for round in 0..2 {
                let mut file = open_file(folder.path(), u64::MAX)?;
                prop_assert_eq!(file.book().used_in(&ant(), day).0, whole, "cut {} round {}", cut, round);
                // A number is never given twice, or a late settlement would meet another's.
                if cut == written.len() {
                    let opened = history.iter().filter(|(entry, _)| matches!(entry, LedgerEntry::Reserve { .. })).count();
                    prop_assert_eq!(file.book().next_id(), opened as u64);
                }
                let none = LedgerEntry::Reserve { id: file.book().next_id(), tenant: ant(), route: crm(), day, credits: 0 };
                prop_assert!(round == 0 || file.append(&[&none]).is_ok());
            }
        }
    }

    /// A file that is written anew says the same, and half of one counts for nothing.
    #[test]
    fn a_crash_while_the_file_is_written_anew_changes_nothing(acts in acts(), at in any::<Index>()) {
        let day: Date = "2026-05-10".parse().unwrap_or_default();
        let history = history(&acts, day);
        let sum = history.last().map_or(0, |(_, sum)| *sum);
        let folder = tempfile::tempdir().unwrap_or_else(|e| unreachable!("{e}"));
        let mut file = open_file(folder.path(), 1)?;
        for (entry, _) in &history {
            prop_assert!(file.append(&[entry]).is_ok());
            let (book, length) = read_file(folder.path())?;
            prop_assert_eq!(&book, file.book());
            prop_assert_eq!(length, fs::metadata(folder.path().join("ledger")).map_or(0, |m| m.len()));
        }
        drop(file);
        let whole = fs::read(folder.path().join("ledger")).unwrap_or_default();
        let half = &whole[..at.index(whole.len() + 1)];
        prop_assert!(fs::write(folder.path().join("ledger.new"), half).is_ok());
        let file = open_file(folder.path(), 1)?;
        prop_assert_eq!(file.book().used_in(&ant(), day).0, sum);
    }
}

/// A process that another test begins holds the lock until it has become another program.
fn open_file(folder: &Path, compact_at: u64) -> std::result::Result<LedgerFile, TestCaseError> {
    for _ in 0..500 {
        match LedgerFile::open(folder, compact_at) {
            Err(LedgerError::Locked(_)) => thread::sleep(Duration::from_millis(10)),
            other => return other.map_err(|e| TestCaseError::fail(e.to_string())),
        }
    }
    Err(TestCaseError::fail("it stays locked"))
}

fn read_file(folder: &Path) -> std::result::Result<(Book, u64), TestCaseError> {
    file::read(folder).map_err(|e| TestCaseError::fail(e.to_string()))
}

#[test]
fn a_damaged_line_before_the_last_is_an_error_and_not_a_new_budget() -> Result {
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::open(folder.path())?;
    block_on(ledger.reserve(&ant(), &crm(), 10, budget(10, 10), MAY.parse()?))??.begin();
    block_on(ledger.flush())??;
    let path = folder.path().join("ledger");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replacen("\"credits\":10", "\"credits\":11", 1))?;
    let error = read(folder.path()).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("is damaged") && error.contains("line 3"), "{error}");
    assert!(matches!(Ledger::open(folder.path()), Err(LedgerError::Locked(_))), "it is for one process alone");
    Ok(())
}

const CHILD: &str = "TENANTD_LEDGER_TEST_CHILD";

/// The process that is killed: it says what it has reserved once that is certain.
#[test]
#[expect(clippy::print_stdout, reason = "its parent reads what it prints")]
fn child() -> Result {
    let Some(folder) = std::env::var_os(CHILD) else { return Ok(()) };
    let ledger = Ledger::open_compacting(Path::new(&folder), 2048)?;
    block_on(async {
        for round in 0.. {
            let mut reservation = ledger.reserve(&ant(), &crm(), 10, Budget::default(), Timestamp::now()).await?;
            reservation.begin();
            println!("\nreserved");
            if round % 3 == 0 {
                reservation.settle(4);
            } else {
                reservation.settle(25);
            }
            println!("settled");
        }
        Ok(())
    })?
}

#[test]
fn a_killed_process_has_spent_what_it_said() -> Result {
    let folder = tempfile::tempdir()?;
    let mut spent = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "accounting::ledger::tests::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (mut reserved, mut settled) = (0_u64, 0_u64);
        for line in out.lines() {
            match line?.as_str() {
                "reserved" => reserved += 1,
                "settled" => settled += 1,
                _ => {}
            }
            if reserved == 5 + round * 7 {
                child.kill()?;
            }
        }
        child.wait()?;
        // All but the last were settled in the file before the next was reserved. Of the last, as of
        // one that was not reported any more, what was reserved or what it cost counts.
        let certain: u64 = (0..reserved.saturating_sub(1)).map(|n| if n % 3 == 0 { 4 } else { 25 }).sum();
        let book = read(folder.path())?;
        let now = book.credits(None).values().sum::<u64>() - spent;
        assert!(settled <= reserved && reserved >= 5 + round * 7, "{reserved} {settled}");
        assert!((certain + 4..=certain + 50).contains(&now), "round {round}: {now} of {certain}");
        spent += now;
    }
    Ok(())
}
