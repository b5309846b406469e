using KernelScope.Training.Runs;

namespace KernelScope.Cli;

/// <summary>What several verbs of runs do: open a run, say what it takes, sum up what it holds.</summary>
internal static class RunSteps
{
    /// <summary>Opens the plan of a folder, or of its run.json.</summary>
    /// <exception cref="InvalidDataException">There is none, or it is malformed.</exception>
    public static (RunFolder Folder, RunPlan Plan) Open(string path)
    {
        var folder = new RunFolder(Path.GetFileName(path) == "run.json" && !Directory.Exists(path)
            ? Path.GetDirectoryName(Path.GetFullPath(path))! : path);
        return (folder, RunPlan.Read(folder));
    }

    /// <summary>Shards without a manifest.</summary>
    public static int[] Missing(RunFolder folder, RunPlan plan)
    {
        SortedSet<int> done = folder.ShardsWithManifest();
        return [.. Enumerable.Range(0, plan.Shards.Count).Where(n => !done.Contains(n))];
    }

    /// <summary>Bytes that shards still have to write.</summary>
    public static long MissingBytes(RunPlan plan, IEnumerable<int> missing)
    {
        long rows = missing.Sum(n => plan.Shards[n].Rows);
        return plan.Rows == 0 ? 0 : (long)(RunPlanner.BytesOf(plan) * (rows / (double)plan.Rows));
    }

    /// <summary>Tokens of shards, about.</summary>
    public static long TokensOf(RunPlan plan, IReadOnlyCollection<int> shards) =>
        (long)(plan.TokenCount * (shards.Sum(n => (double)plan.Shards[n].Sequences) / Math.Max(1, plan.Sequences)));

    /// <summary>Refuses work for whose files there is no room.</summary>
    /// <exception cref="WorkException">There is none.</exception>
    public static void RequireRoom(string folder, long bytes)
    {
        string place = Path.GetFullPath(folder);
        while (!Directory.Exists(place) && Path.GetDirectoryName(place) is string above)
            place = above;
        long free;
        try
        {
            free = new DriveInfo(place).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // A file system that does not say: writing will.
            return;
        }

        if (bytes > free)
            throw new WorkException($"{Printable.Escape(folder)}: this takes about {ByteText.Of(bytes)}, and " +
                $"{ByteText.Of(free)} are free there.");
    }

    /// <summary>Refuses outputs that would write over a run's own files.</summary>
    /// <exception cref="UsageException">There is one.</exception>
    public static void RequireApart(RunFolder folder, params IEnumerable<(string Option, string? Path)> outputs)
    {
        foreach ((string option, string? path) in outputs)
        {
            if (!string.IsNullOrEmpty(path) && folder.Holds(path))
                throw new UsageException($"{option} names {Printable.Escape(path)}, which is a place for the run's own files; choose " +
                    "another.");
        }
    }

    /// <summary>Says what is about to happen.</summary>
    public static void Say(Streams streams, RunPlan plan, int missing, long bytes, double seconds)
    {
        string stored = plan.Sites.Count == 0 ? "codes"
            : $"{plan.Sites.Count} site{(plan.Sites.Count == 1 ? "" : "s")}{(plan.Saes.Count > 0 ? " and codes" : "")}";
        streams.Error.WriteLine($"Run {plan.Id[..12]}: {plan.TokenCount} tokens in {plan.Sequences} sequences, {plan.Rows} rows of " +
            $"{stored}, {plan.Shards.Count} shard{(plan.Shards.Count == 1 ? "" : "s")}, {missing} of them missing.");
        streams.Error.WriteLine($"It takes about {ByteText.Of(bytes)} on disk and {ByteText.Of(TimeSpan.FromSeconds(seconds))} here.");
    }

    /// <summary>The sequence with which time is measured.</summary>
    public static int[] FirstSequence(PlanRequest request) => request.Corpus.Sequences(request.Plan.Context, request.Packed).First().Ids;

    /// <summary>What a run holds at each site.</summary>
    public static IReadOnlyList<HarvestedSite> SitesOf(RunFolder folder, RunPlan plan)
    {
        var sums = plan.Sites.ToDictionary(s => s.Name, _ => (Rows: 0L, Squared: 0.0));
        int done = 0;
        for (int n = 0; n < plan.Shards.Count; n++)
        {
            if (ShardManifest.Read(folder, plan, n) is not ShardManifest manifest)
                continue;
            done++;
            foreach ((string name, SiteManifest site) in manifest.Sites)
                sums[name] = (sums[name].Rows + site.Rows, sums[name].Squared + site.SumSquaredNorm);
        }

        return [.. plan.Sites.Select(s => new HarvestedSite(s.Name, sums[s.Name].Rows, done == plan.Shards.Count && sums[s.Name].Rows > 0
            ? sums[s.Name].Squared / sums[s.Name].Rows : null))];
    }

    /// <summary>Bytes of all files of a folder; 0 where there is none.</summary>
    public static long BytesOf(string folder) => Directory.Exists(folder)
        ? new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length) : 0;

    /// <summary>Says on standard error what failed, and gives the exit code: 2 where trying again cannot help.</summary>
    public static int Report(Streams streams, IReadOnlyList<FailedShard> failed)
    {
        foreach (FailedShard shard in failed)
            Failure.WriteLine(streams.Error, $"shard {shard.Shard}: {shard.Error}");
        return failed.Count == 0 ? ExitCode.Done : failed.Any(f => f.RetryHelps) ? ExitCode.Failed : ExitCode.Usage;
    }
}
