using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>Trainings that share a reader: at each step the batch is read once, and each takes it in turn.</summary>
/// <param name="rows">The reader; each trainer has a view of it.</param>
internal sealed class TrainingGroup(SharedRows rows) : IDisposable
{
    private readonly List<(SuiteItem Item, SaeTrainer Trainer, TrainingRun Run)> _runs = [];

    /// <summary>Adds a training, which goes to where it was.</summary>
    /// <exception cref="InvalidDataException">Its checkpoint is of another training.</exception>
    public void Add(SuiteItem item, SaeTrainer trainer, TrainingFiles files, IProgress<TrainingProgress> progress)
    {
        TrainingRun? run = null;
        try
        {
            run = new TrainingRun(trainer, files);
            run.Begin(progress);
            _runs.Add((item, trainer, run));
        }
        catch
        {
            run?.Dispose();
            trainer.Dispose();
            throw;
        }
    }

    /// <summary>Trains all to their ends.</summary>
    /// <param name="attempt">Does what an item's turn is; false: it failed, and its training ends there.</param>
    /// <param name="cancellationToken">Ends it between two steps, after a checkpoint of each.</param>
    public void Run(Func<SuiteItem, Action, bool> attempt, CancellationToken cancellationToken)
    {
        if (_runs.Count == 0)
            return;
        rows.Start(_runs.Select(r => r.Trainer.Rows));
        List<(SuiteItem Item, SaeTrainer Trainer, TrainingRun Run)> left = [.. _runs];
        while (left.Count > 0)
        {
            // Those that were resumed further on wait for the others.
            long step = left.Min(r => r.Run.Step);
            var due = left.Where(r => r.Run.Step == step).ToList();
            if (cancellationToken.IsCancellationRequested)
                due.ForEach(r => r.Run.SaveCheckpoint());
            cancellationToken.ThrowIfCancellationRequested();
            foreach ((SuiteItem Item, SaeTrainer Trainer, TrainingRun Run) one in due)
            {
                if (!attempt(one.Item, () => Advance(one.Run, cancellationToken)) || one.Run.IsAtEnd)
                    left.Remove(one);
            }
        }
    }

    public void Dispose()
    {
        foreach ((_, SaeTrainer trainer, TrainingRun run) in _runs)
        {
            run.Dispose();
            trainer.Dispose();
        }
    }

    private static void Advance(TrainingRun run, CancellationToken cancellationToken)
    {
        if (!run.IsAtEnd)
            run.Advance(cancellationToken);
        if (run.IsAtEnd)
            run.End(cancellationToken);
    }
}
