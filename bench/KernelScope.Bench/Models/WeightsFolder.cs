using KernelScope.Bench.Peers;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Measuring;
using KernelScope.Model;

namespace KernelScope.Bench.Models;

/// <summary>
/// The folder with the random weights of the whole model and what is made of them: written at most once, used again while valid, and removed at the end unless it is to be kept. A note in it says that
/// it is ours: a folder that holds anything else is never written to or removed. What is opened leaves the page cache before, as after a restart of the machine.
/// </summary>
internal sealed class WeightsFolder(string path, Gemma2Config shape, bool keep) : IDisposable
{
    public const string NoteName = "kernelscope-bench.txt";

    /// <summary>What a process that loads packs for itself.</summary>
    public const string LoadPanelsName = "load.panels";

    private const string PanelsName = "kernelscope.panels", GgufName = "model.gguf", Unfinished = ".tmp";

    private static readonly string[] Names = ["config.json", "model.safetensors", PanelsName, LoadPanelsName, GgufName, NoteName];

    // config.json, and the rounding of file systems.
    private const long Slack = 64 << 20;

    private bool _used;

    /// <summary>The folder.</summary>
    public string Path { get; } = System.IO.Path.GetFullPath(path);

    public Gemma2Config Shape => shape;

    private string Note =>
        $"Random weights that KernelScope.Bench made, version 1; they can be deleted. Their shape:\n{RandomModel.ConfigText(shape)}";

    /// <summary>Opens the weights, which are written first if they are not there.</summary>
    /// <exception cref="IOException">The folder holds something else, or there is no room for the weights.</exception>
    public Gemma2Checkpoint Open(Progress progress, CancellationToken cancellation)
    {
        Claim();
        if (!IsValid())
        {
            Remove(PanelsName);
            Remove(GgufName);
            Require(2 * ModelSizes.Weights(shape), "weights");
            RandomModel.Write(Path, shape, share => progress.Show($"writing random weights to {Path}", share), cancellation);
        }

        PageCache.Drop(RandomModel.WeightsPath(Path));
        return Gemma2Checkpoint.Open(Path);
    }

    /// <summary>Opens the weights with packed matrices, which are written first if they are not there.</summary>
    /// <param name="store">The device's that is to read them; null: an engine finds them itself.</param>
    /// <param name="progress">Told what takes long.</param>
    /// <param name="cancellation">Stops it.</param>
    public Gemma2Checkpoint OpenPacked(PanelStore? store, Progress progress, CancellationToken cancellation)
    {
        Gemma2Checkpoint checkpoint = Open(progress, cancellation);
        try
        {
            string panels = At(PanelsName);
            if (!Uses(store, checkpoint, panels))
            {
                Require(2 * ModelSizes.Weights(shape), "packed weights");
                ModelPanels.Write(checkpoint, panels, new Told(share => progress.Show($"packing the weights to {panels}", share)),
                    cancellation);
                Uses(store, checkpoint, panels);
            }

            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>The path of the weights in GGUF, which are written first if they are not there.</summary>
    public string Gguf(Progress progress, CancellationToken cancellation)
    {
        string path = At(GgufName);
        using Gemma2Checkpoint checkpoint = Open(progress, cancellation);
        if (!File.Exists(path))
        {
            Require(2 * ModelSizes.Weights(shape), "weights as GGUF");
            progress.Show($"writing {path}");
            GgufWriter.Write(path, shape, checkpoint, cancellation);
        }

        PageCache.Drop(path);
        return path;
    }

    /// <summary>Whether the weights are there, whole, and in this shape.</summary>
    public bool IsValid()
    {
        if (!File.Exists(At(NoteName)) || File.ReadAllText(At(NoteName)) != Note || !File.Exists(RandomModel.WeightsPath(Path)))
            return false;
        try
        {
            using Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(Path);
            return checkpoint.TotalBytes > 2 * ModelSizes.Weights(shape);
        }
        catch (InvalidDataException)
        {
            return false;
        }
    }

    /// <summary>Removes what was made, unless it is to be kept or was not asked for in this run.</summary>
    public void Dispose()
    {
        if (keep || !_used || !File.Exists(At(NoteName)))
            return;
        foreach (string file in Directory.GetFiles(Path))
        {
            if (IsOurs(System.IO.Path.GetFileName(file)))
                File.Delete(file);
        }

        if (!Directory.EnumerateFileSystemEntries(Path).Any())
            Directory.Delete(Path);
    }

    // A process that was killed leaves files without their final name.
    private static bool IsOurs(string name) => Names.Contains(name)
        || (name.EndsWith(Unfinished, StringComparison.Ordinal) && Names.Any(n => name.StartsWith(n, StringComparison.Ordinal)));

    private static bool Uses(PanelStore? store, Gemma2Checkpoint checkpoint, string panels)
    {
        if (!File.Exists(panels))
            return false;
        PanelFile? file = null;
        try
        {
            PageCache.Drop(panels);
            file = PanelFile.Open(panels);
            if (store is null)
            {
                ModelPanels.Check(checkpoint, file);
                file.Dispose();
            }
            else
            {
                ModelPanels.Use(store, checkpoint, file);
            }

            return true;
        }
        catch (InvalidDataException)
        {
            file?.Dispose();
            return false;
        }
    }

    private void Claim()
    {
        _used = true;
        Directory.CreateDirectory(Path);
        if (File.Exists(At(NoteName)))
        {
            if (File.ReadAllText(At(NoteName)) != Note)
                throw new IOException($"{Path} holds random weights of another shape or version; delete it or name another folder.");
            return;
        }

        if (Directory.EnumerateFileSystemEntries(Path).Any())
            throw new IOException($"{Path} holds files that this program did not write; --weights wants a folder that is empty, new, " +
                "or written by it.");
        File.WriteAllText(At(NoteName), Note);
    }

    private void Require(double bytes, string what)
    {
        long free = new DriveInfo(Path).AvailableFreeSpace;
        if (free < bytes + Slack)
            throw new IOException(FormattableString.Invariant(
                $"{Path} has {free / 1e9:f1} GB of room; the {what} take {bytes / 1e9:f1} GB."));
    }

    private string At(string name) => System.IO.Path.Combine(Path, name);

    private void Remove(string name) => File.Delete(At(name));

    /// <summary>Told at once, on the thread that reports.</summary>
    private sealed class Told(Action<double> report) : IProgress<double>
    {
        public void Report(double value) => report(value);
    }
}
