using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>The model that a run was made with.</summary>
internal static class RunModel
{
    /// <summary>Opens it, and makes sure by its hashes that it is the run's.</summary>
    /// <param name="given">Where it is; null: where the run's own name leads.</param>
    /// <param name="run">The run's plan.</param>
    /// <param name="intoMemory">Whether weights are read into memory, not mapped.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="UsageException">The run's model is not found here, or what is found is another.</exception>
    /// <exception cref="InvalidDataException">What was given is no model.</exception>
    public static ModelFiles Open(string? given, RunPlan run, bool intoMemory, CancellationToken cancellationToken)
    {
        ModelFiles files;
        try
        {
            files = ModelFiles.Open(given ?? run.Model.Name, intoMemory);
        }
        catch (InvalidDataException e) when (given is null)
        {
            throw new UsageException($"the run's model '{run.Model.Name}' is not found here ({e.Message.TrimEnd('.')})");
        }

        ModelRecord found = RunIdentity.Of(run.Model.Name, files.Checkpoint, cancellationToken);
        if (found.ConfigSha256 == run.Model.ConfigSha256
            && found.Files.Select(f => f.Sha256).SequenceEqual(run.Model.Files.Select(f => f.Sha256)))
            return files;
        string name = files.Name;
        files.Dispose();
        throw new UsageException($"{name} is another model than the run's '{run.Model.Name}'.");
    }
}
