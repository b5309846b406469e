using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Files;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>The packed weights in the user's cache: of which models they are, and whether they would be used.</summary>
internal static class PackedFiles
{
    /// <summary>Every file there, in the order of names; what a killed run left is one too. All of it is read, since a damaged byte makes it useless.</summary>
    /// <param name="streams">For progress.</param>
    /// <param name="cancellation">Ends it after a file.</param>
    public static List<PackedRow> All(Streams streams, CancellationToken cancellation)
    {
        string folder = PanelCache.FolderPath(Environment.GetEnvironmentVariable);
        if (!Directory.Exists(folder))
            return [];
        List<PackedRow> rows = [];
        string[] paths = [.. Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal)];
        using var progress = new Progress(streams, "Checking packed weights");
        foreach (string path in paths)
        {
            cancellation.ThrowIfCancellationRequested();
            progress.Report((double)Array.IndexOf(paths, path) / paths.Length);
            if (path.EndsWith(PanelFile.Extension, StringComparison.Ordinal))
                rows.Add(RowFor(path));
            else if (TemporaryName.TargetOf(Path.GetFileName(path)) is not null)
                rows.Add(new PackedRow(path, new FileInfo(path).Length, null, false, "it was being written when the program was ended"));
        }

        return rows;
    }

    /// <summary>Deletes the files that no run would use.</summary>
    /// <returns>What was deleted.</returns>
    public static List<PackedRow> Clean(Streams streams, CancellationToken cancellation)
    {
        List<PackedRow> deleted = [];
        foreach (PackedRow row in All(streams, cancellation).Where(r => !r.Ok))
        {
            if (row.Path.EndsWith(PanelFile.Extension, StringComparison.Ordinal))
                File.Delete(row.Path);
            else
                TemporaryName.Sweep(Path.Combine(Path.GetDirectoryName(row.Path)!, TemporaryName.TargetOf(Path.GetFileName(row.Path))!));
            if (!File.Exists(row.Path))
                deleted.Add(row);
        }

        return deleted;
    }

    private static PackedRow RowFor(string path)
    {
        string? source = null;
        string? problem;
        bool rounded = false;
        try
        {
            using (PanelFile panels = PanelFile.Open(path))
                (source, rounded) = (panels.SourcePath, panels.IsRounded);
            problem = Problem(path, source);
        }
        catch (InvalidDataException e)
        {
            problem = e.Message;
        }

        return new PackedRow(path, new FileInfo(path).Length, source, problem is null, problem) { Rounded = rounded };
    }

    private static string? Problem(string path, string source)
    {
        using Gemma2Checkpoint model = Open(source);
        return PackedWeights.Problem(model, path, verify: true, rounded: null);
    }

    private static Gemma2Checkpoint Open(string source)
    {
        if (Directory.Exists(source))
            return Gemma2Checkpoint.Open(source);
        Gemma2Checkpoint demo = Demo.OpenCheckpoint();
        if (demo.Folder.Path == source)
            return demo;
        demo.Dispose();
        throw new InvalidDataException($"{Printable.Escape(source)}: the folder of the weights is no longer there.");
    }
}
