using System.Runtime.ExceptionServices;
using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>How far a worker is with an item.</summary>
/// <param name="Text">One line.</param>
/// <param name="ItemsDone">Items that it finished.</param>
internal sealed record SuiteProgress(string Text, int ItemsDone);

/// <summary>An item that cannot be trained.</summary>
internal sealed record FailedItem(SuiteItem Item, string Error);

/// <summary>
/// Trains and measures the items that a queue hands out. Each is resumed from its last checkpoint, so that one that was killed at any
/// moment ends with the same SAE. An item that another worker has at this moment is left to it.
/// </summary>
/// <param name="folder">The suite's folder.</param>
/// <param name="plan">What it holds.</param>
/// <param name="run">The run's folder.</param>
/// <param name="model">Splices are measured with it; null: they are left out.</param>
/// <param name="checkpointEvery">Steps between two checkpoints.</param>
/// <param name="together">Most items with the same rows that are trained at once, by one reader.</param>
internal sealed class SuiteWorker(SuiteFolder folder, SuitePlan plan, RunFolder run, Gemma2Model? model, long checkpointEvery,
    int together = 1)
{
    private const int MaxLength = 1 << 24;
    private static readonly TimeSpan Busy = TimeSpan.FromSeconds(2), LaterOn = TimeSpan.FromSeconds(30);
    private readonly Lock _evaluating = new();
    private TokenSet? _tokens;
    private int _done;

    /// <summary>What could not be trained, by this process.</summary>
    public System.Collections.Concurrent.ConcurrentBag<FailedItem> Failed { get; } = [];

    /// <summary>Works until the queue has nothing for as long as <paramref name="idle"/>. Several threads may, each with a queue and a
    /// device of its own.</summary>
    /// <param name="queue">Hands out items by their index.</param>
    /// <param name="device">Trains.</param>
    /// <param name="idle">How long to wait for an item.</param>
    /// <param name="progress">Told from time to time.</param>
    /// <param name="cancellationToken">Ends it, after a checkpoint.</param>
    public void Run(IShardQueue queue, Device device, TimeSpan idle, IProgress<SuiteProgress>? progress,
        CancellationToken cancellationToken)
    {
        var watch = new LeaseWatch(queue);
        while (queue.Lease(idle, cancellationToken) is ShardLease lease)
        {
            // One that failed as another's companion fails again.
            if (Failed.Any(f => f.Item == plan.Items[lease.Shard]))
            {
                queue.Reject(lease);
                continue;
            }

            using (watch.Keep(lease))
                Do(queue, lease, device, watch, progress, cancellationToken);
        }
    }

    private void Do(IShardQueue queue, ShardLease lease, Device device, LeaseWatch watch, IProgress<SuiteProgress>? progress,
        CancellationToken cancellationToken)
    {
        SuiteItem item = plan.Items[lease.Shard];
        void Say(string text)
        {
            watch.Advance();
            progress?.Report(new SuiteProgress(text, Volatile.Read(ref _done)));
        }

        try
        {
            if (TryDo(item, device, Say, cancellationToken))
            {
                queue.Complete(lease);
                return;
            }

            queue.Retry(lease, Busy);
        }
        catch (OperationCanceledException)
        {
            queue.Retry(lease, TimeSpan.Zero);
            throw;
        }
        catch (Exception e) when (e is TrainingException or InvalidDataException or NotFiniteException or ArgumentException
            or NotSupportedException)
        {
            Fail(item, e);
            queue.Reject(lease);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OutOfMemoryException)
        {
            Failed.Add(new FailedItem(item, e.Message));
            queue.Retry(lease, LaterOn);
            // The others would meet the same disk.
            throw;
        }
    }

    /// <summary>False where another worker has the item.</summary>
    private bool TryDo(SuiteItem item, Device device, Action<string> say, CancellationToken cancellationToken)
    {
        if (IsDone(SuiteResult.Find(folder, item)))
            return true;
        using FileStream? mine = folder.TryLock(item.Name);
        if (mine is null)
            return false;
        SuiteResult? found = SuiteResult.Find(folder, item);
        if (IsDone(found))
            return true;
        if (found is not null)
        {
            // It was trained without the model.
            Finish([(item, found)], say, cancellationToken);
            return true;
        }

        if (Scaled(item, device, say, cancellationToken) is not TrainingOptions options)
            return false;
        List<(SuiteItem Item, FileStream Lock)> others = Companions(item);
        try
        {
            (SuiteItem Item, TrainingOptions Options)[] all = [(item, options),
                .. others.Select(o => (o.Item, Scaled(o.Item, device, say, cancellationToken)!))];
            Dictionary<SuiteItem, Exception> failures = Train(all, device, say, cancellationToken);
            (SuiteItem Item, SuiteResult Result)[] trained = [.. all.Where(a => !failures.ContainsKey(a.Item))
                .Select(a => (a.Item, Trained(a.Item, a.Options)))];
            // One whose numbers are not finite ends the evaluation of all: then each is measured alone.
            if (trained.Length < 2 || !Try(item, [], () => Finish(trained, say, cancellationToken)))
            {
                foreach ((SuiteItem Item, SuiteResult Result) one in trained)
                    Try(one.Item, failures, () => Finish([one], say, cancellationToken));
            }

            foreach ((SuiteItem one, Exception e) in failures.Where(f => f.Key != item))
                Fail(one, e);
            if (failures.TryGetValue(item, out Exception? failure))
                ExceptionDispatchInfo.Throw(failure);
            return true;
        }
        finally
        {
            others.ForEach(o => o.Lock.Dispose());
        }
    }

    /// <summary>Items that have the same rows, are not done, and that nobody else has: they are this worker's until their locks are
    /// disposed. The queue hands them out too, and they are then found done.</summary>
    private List<(SuiteItem Item, FileStream Lock)> Companions(SuiteItem item)
    {
        var found = new List<(SuiteItem, FileStream)>();
        foreach (SuiteItem other in plan.Items.Where(i => i != item && i.SharesRows(item)))
        {
            if (found.Count + 1 >= together)
                break;
            if ((other.NeedsPilot && SuitePilot.Find(folder, other) is null) || SuiteResult.Find(folder, other) is not null
                || File.Exists(folder.Failure(other)) || folder.TryLock(other.Name) is not FileStream mine)
                continue;
            if (SuiteResult.Find(folder, other) is null)
                found.Add((other, mine));
            else
                mine.Dispose();
        }

        return found;
    }

    /// <summary>Measures what was trained: then the items are done.</summary>
    private void Finish((SuiteItem Item, SuiteResult Result)[] trained, Action<string> say, CancellationToken cancellationToken)
    {
        SuiteFidelity[]? fidelity = Measure([.. trained.Select(t => t.Item)], say, cancellationToken);
        // What is trained is not resumed. The result comes last: nobody looks at an item again that has one.
        foreach ((SuiteItem item, _) in trained)
        {
            string checkpoints = Path.Combine(folder.Item(item), "checkpoints");
            if (Directory.Exists(checkpoints))
                Directory.Delete(checkpoints, recursive: true);
            File.Delete(Journal(item));
        }

        for (int n = 0; n < trained.Length; n++)
        {
            (SuiteItem item, SuiteResult result) = trained[n];
            (result with { Fidelity = fidelity?[n] }).Write(folder, item);
            Interlocked.Increment(ref _done);
        }
    }

    private bool IsDone(SuiteResult? found) => found is not null && (model is null || found.Fidelity is not null);

    /// <summary>The options with the sparsity that is trained; null while another worker runs the pilot.</summary>
    private TrainingOptions? Scaled(SuiteItem item, Device device, Action<string> say, CancellationToken cancellationToken)
    {
        if (!item.NeedsPilot)
            return item.Options;
        double? scale = SuitePilot.Find(folder, item);
        if (scale is null)
        {
            using FileStream? mine = folder.TryLock($"pilot.{item.PilotName}");
            if (mine is null)
                return null;
            scale = SuitePilot.Find(folder, item) ?? SuitePilot.Run(folder, item, run.Path, device, say, cancellationToken);
        }

        return item.Options with { Sparsity = item.Options.Sparsity * scale.Value };
    }

    /// <summary>Refuses a folder of another item of the same name: its checkpoints would not fit.</summary>
    private void RequireSame(SuiteItem item)
    {
        string path = Path.Combine(folder.Item(item), "item.json");
        if (!File.Exists(path))
        {
            using AtomicFile file = AtomicFile.Create(path);
            file.Stream.Write(CanonicalJson.Write(new System.Text.Json.Nodes.JsonObject { ["id"] = item.Id }));
            file.Commit();
            return;
        }

        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        if (new RunField(document.RootElement, path, "")["id"].Text != item.Id)
            throw new InvalidDataException($"{folder.Item(item)} holds an item of another suite with the same name; choose another --out.");
    }

    /// <summary>Trains items with one reader, step by step in turn; each ends with the bytes that it has alone.</summary>
    /// <returns>What could not be trained to its end, and why.</returns>
    private Dictionary<SuiteItem, Exception> Train((SuiteItem Item, TrainingOptions Options)[] items, Device device, Action<string> say,
        CancellationToken cancellationToken)
    {
        var failures = new Dictionary<SuiteItem, Exception>();
        foreach ((SuiteItem item, _) in items)
        {
            OutputPlace.CreateFolder(folder.Item(item));
            File.Delete(folder.Failure(item));
            Try(item, failures, () => RequireSame(item));
        }

        (SuiteItem Item, TrainingOptions Options)[] left = [.. items.Where(i => !failures.ContainsKey(i.Item)
            && !File.Exists(Path.Combine(folder.Item(i.Item), TrainingRun.SummaryName)))];
        if (left.Length == 0)
            return failures;
        say($"{left[0].Item.Name}{(left.Length > 1 ? $" and {left.Length - 1} with it" : "")}: reading rows");
        SuiteItem first = left[0].Item;
        using var rows = new SharedRows(RunRows.Open(run, plan.Run, first.Site, first.SiteOut, first.Rows));
        using var group = new TrainingGroup(rows);
        foreach ((SuiteItem item, TrainingOptions options) in left)
        {
            Try(item, failures, () => group.Add(item, new SaeTrainer(device, rows.CreateView(), options), new TrainingFiles
            {
                Folder = folder.Item(item),
                CheckpointEvery = checkpointEvery,
                ValidateEvery = 0,
                Resume = true,
                Warn = say,
                Place = new TrainedPlace { Site = item.Site, SiteOut = item.SiteOut, ModelName = plan.Run.Model.Name },
            }, new Steps(item.Name, say)));
        }

        group.Run((item, step) => Try(item, failures, step), cancellationToken);
        return failures;
    }

    /// <summary>Does something for an item; false, and the item is failed, where it cannot be trained.</summary>
    private static bool Try(SuiteItem item, Dictionary<SuiteItem, Exception> failures, Action work)
    {
        try
        {
            work();
            return true;
        }
        catch (Exception e) when (e is TrainingException or InvalidDataException or NotFiniteException or ArgumentException
            or NotSupportedException)
        {
            failures[item] = e;
            return false;
        }
    }

    /// <summary>What training.json says.</summary>
    private SuiteResult Trained(SuiteItem item, TrainingOptions options)
    {
        string path = Path.Combine(folder.Item(item), TrainingRun.SummaryName);
        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        var root = new RunField(document.RootElement, path, "");
        RunField? validation = root.Has("validation") ? root["validation"] : null;
        return new SuiteResult
        {
            Sparsity = SuiteResult.Real(root, "sparsity") ?? options.Sparsity,
            Steps = root["steps"].Long(0, long.MaxValue),
            Rows = validation is RunField some ? some["rows"].Long(0, long.MaxValue) : 0,
            L0 = validation is RunField l0 ? SuiteResult.Real(l0, "l0") : null,
            Fvu = validation is RunField fvu ? SuiteResult.Real(fvu, "fvu") : null,
            Dead = root["dead"].Int(0, int.MaxValue),
            Path = $"items/{item.Name}/{root["export"].Items.First().Text}",
        };
    }

    private string Journal(SuiteItem item) => Path.Combine(folder.Item(item), "evaluation.journal");

    /// <summary>Measures SAEs of one site, which share the passes that do not depend on the SAE; null without a model.</summary>
    private SuiteFidelity[]? Measure(SuiteItem[] items, Action<string> say, CancellationToken cancellationToken)
    {
        if (model is null)
            return null;
        // One group at a time: they share the model's device, and each uses all of it.
        lock (_evaluating)
        {
            _tokens ??= ValidationTokens(model);
            var targets = new List<SaeTarget>();
            try
            {
                foreach (SuiteItem item in items)
                    targets.Add(new SaeTarget(item.Name, JumpReluSae.Open(model.Device, Path.Combine(folder.Item(item),
                        TrainingRun.SaeLensName)), item.Site, item.SiteOut ?? item.Site));
                var evaluation = new SaeEvaluation(model, targets, _tokens, new EvaluationOptions
                {
                    // Of these SAEs: after a kill between two results fewer of them are left to measure, and it begins anew.
                    ResumePath = Journal(items[0]),
                    OwnsResumeFile = true,
                    Splices = SpliceRun.OfDefaults,
                });
                return SuiteFidelity.From(evaluation.Run(new Sequences(items[0].Name, say), cancellationToken));
            }
            finally
            {
                targets.ForEach(t => t.Sae.Dispose());
            }
        }
    }

    /// <summary>The sequences that no item was trained on, in their order.</summary>
    private TokenSet ValidationTokens(Gemma2Model reader)
    {
        if (plan.Run.SkipFirst > 0)
            throw new InvalidDataException($"the run leaves out the first {plan.Run.SkipFirst} positions of each sequence, and losses " +
                "are " +
                $"counted by tokens; --no-model leaves them out.");
        return RunEvaluation.ValidationTokens(run, plan.Run, plan.Items[0].Rows.Validation, plan.Sequences, reader.Config)
            ?? throw new InvalidDataException("no sequence of the run is kept back, so that delta loss has nothing to be measured on; a " +
                "larger options.validation keeps some, and --no-model leaves it out.");
    }

    private void Fail(SuiteItem item, Exception e)
    {
        Failed.Add(new FailedItem(item, e.Message));
        WriteFailure(item, e.Message);
    }

    private void WriteFailure(SuiteItem item, string error)
    {
        try
        {
            OutputPlace.CreateFolder(folder.Item(item));
            using AtomicFile file = AtomicFile.Create(folder.Failure(item));
            file.Stream.Write(CanonicalJson.Write(new System.Text.Json.Nodes.JsonObject { ["id"] = item.Id, ["error"] = error }));
            file.Commit();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What happened is printed in any case.
        }
    }

    private sealed class Steps(string name, Action<string> say) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) =>
            say(FormattableString.Invariant($"{name}: step {value.Step} of {value.Steps}, L0 {value.L0:0.0}, FVU {value.Fvu:0.000}"));
    }

    private sealed class Sequences(string name, Action<string> say) : IProgress<EvaluationProgress>
    {
        public void Report(EvaluationProgress value) => say($"{name}: spliced into {value.SequencesDone} of {value.Sequences} sequences");
    }
}

/// <summary>Items of this process, for its threads; one that somebody else has comes again later.</summary>
/// <param name="items">In their order.</param>
internal sealed class ItemList(IEnumerable<int> items) : IShardQueue
{
    private readonly System.Collections.Concurrent.ConcurrentQueue<int> _items = new(items);

    public TimeSpan? LeaseTime => null;

    public ShardLease? Lease(TimeSpan wait, CancellationToken cancellationToken) => _items.TryDequeue(out int item)
        ? new ShardLease(item) : null;

    public void Extend(ShardLease lease)
    {
    }

    public void Complete(ShardLease lease)
    {
    }

    public void Retry(ShardLease lease, TimeSpan delay)
    {
        // Where it is the only one left, its worker is waited for; where others have several, they are not asked for all the time. Who
        // ends because it failed is not held up for long.
        Thread.Sleep(TimeSpan.FromMilliseconds(Math.Min(_items.IsEmpty ? 2000 : 50, delay.TotalMilliseconds)));
        _items.Enqueue(lease.Shard);
    }

    public void Reject(ShardLease lease)
    {
    }

    public void Dispose()
    {
    }
}
