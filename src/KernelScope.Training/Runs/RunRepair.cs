using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>Takes back what cannot be a part of a shard, so that the shard is made again.</summary>
internal static class RunRepair
{
    /// <summary>
    /// Removes a manifest whose files are missing or damaged, and those files; what is whole stays. Gives what was removed, by path in
    /// the run.
    /// </summary>
    /// <param name="folder">The run.</param>
    /// <param name="plan">Its plan.</param>
    /// <param name="shard">Which.</param>
    /// <param name="verify">Whether all bytes are read; else only lengths are looked at.</param>
    /// <param name="cancellationToken">Stops between two files.</param>
    /// <exception cref="IOException">It cannot be removed.</exception>
    public static IReadOnlyList<string> Discard(RunFolder folder, RunPlan plan, int shard, bool verify, CancellationToken cancellationToken)
    {
        ShardManifest? manifest;
        string path = RunFolder.Manifest(shard);
        RequireNoFolder(folder.At(path));
        try
        {
            manifest = ShardManifest.Read(folder, plan, shard);
        }
        catch (InvalidDataException)
        {
            File.Delete(folder.At(path));
            return [path];
        }

        if (manifest is null)
            return [];
        string[] damaged = [.. manifest.Files.Where(f => !IsWhole(folder.At(f.Path), f.File, verify, cancellationToken))
            .Select(f => f.Path)];
        if (damaged.Length == 0)
            return [];
        Array.ForEach(damaged, f => RequireNoFolder(folder.At(f)));
        // The manifest first: without it nobody takes the rest for a shard.
        File.Delete(folder.At(path));
        foreach (string file in damaged.Where(f => !f.StartsWith("tokens/", StringComparison.Ordinal)))
            File.Delete(folder.At(file));
        return [path, .. damaged];
    }

    /// <summary>What is in a folder is not the run's, and not deleted.</summary>
    private static void RequireNoFolder(string path)
    {
        if (Directory.Exists(path))
            throw BadFile.At(path, "this is a folder; a file of the run was expected. Move it away.");
    }

    private static bool IsWhole(string path, StoredFile file, bool verify, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (new FileInfo(path) is not { Exists: true } found || found.Length != file.Bytes)
            return false;
        if (!verify)
            return true;
        try
        {
            return PlacedFile.Measure(path, cancellationToken) == file;
        }
        catch (InvalidDataException)
        {
            return false;
        }
    }
}
