using System.Diagnostics;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Finds a model's packed weights, or makes them.</summary>
internal static class PackedWeights
{
    // Fewer bytes are read in the blink of an eye.
    private const long WorthALine = 256L << 20;

    /// <summary>Makes a model use its packed weights, if it has any; where that is asked for, makes them first. A file that does not fit the weights is not used.</summary>
    /// <param name="model">The model.</param>
    /// <param name="name">What the user calls it.</param>
    /// <param name="device">What will compute.</param>
    /// <param name="use">Which, and whether to make them if they are missing, old or damaged.</param>
    /// <param name="streams">For what is not used and why, and progress.</param>
    /// <param name="cancellation">Stops packing.</param>
    public static void Use(Gemma2Checkpoint model, string name, Device device, PanelUse use, Streams streams,
        CancellationToken cancellation)
    {
        bool make = use == PanelUse.Make;
        if (ModelPanels.StoreOf(device) is not PanelStore store)
        {
            if (use != PanelUse.Exact)
                throw new UsageException($"{(make ? "--pack" : "--panels")} is for the cpu device; {device.Name} does not read packed " +
                    "weights.");
            return;
        }

        if (use == PanelUse.Rounded)
        {
            UseRounded(store, model, name, streams);
            return;
        }

        string? path = PanelCache.Find(model, Environment.GetEnvironmentVariable);
        bool isUsed = false, sourceWasRead = false;
        if (path is not null && Problem(model, path, verify: make,
            panels => sourceWasRead = ModelPanels.Use(store, model, panels)) is string problem)
        {
            if (!make)
                Failure.WriteLine(streams.Error, $"{problem.TrimEnd('.')}; it is not used, and --pack makes it anew.");
        }
        else
        {
            isUsed = path is not null;
        }

        if (make && !isUsed)
        {
            path ??= PanelCache.CachePath(model, Environment.GetEnvironmentVariable);
            Make(model, name, path, rounded: false, streams, cancellation);
            sourceWasRead = ModelPanels.Use(store, model, PanelFile.Open(path, model.IsInMemory));
            isUsed = true;
        }

        if (sourceWasRead && model.TotalBytes >= WorthALine)
            Failure.WriteLine(streams.Error, $"{Printable.Escape(path!)}: the times of the weights are not those of when they were " +
                "packed, or cannot be relied on there, so all of them were read to compare them; 'kernelscope pack' may spare that.");
        if (device is ProfilingDevice && isUsed)
            streams.Error.WriteLine($"packed weights: {Printable.Escape(path!)}");
    }

    /// <summary>Makes the file and says so, and how the matrices are kept in it.</summary>
    public static IReadOnlyList<PackedMatrixInfo> Make(
        Gemma2Checkpoint model, string name, string path, bool rounded, Streams streams, CancellationToken cancellation)
    {
        if (path == PanelCache.CachePath(model, Environment.GetEnvironmentVariable, rounded))
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        long start = Stopwatch.GetTimestamp();
        IReadOnlyList<PackedMatrixInfo> matrices;
        using (var progress = new Progress(streams, $"Packing {Printable.Escape(name)}"))
        {
            matrices = rounded ? ModelPanels.WriteRounded(model, path, progress, cancellation)
                : ModelPanels.Write(model, path, progress, cancellation);
        }

        streams.Error.WriteLine($"packed {ByteText.Of(new FileInfo(path).Length)} " +
            $"in {ByteText.Of(Stopwatch.GetElapsedTime(start))}: {Printable.Escape(path)}");
        return matrices;
    }

    /// <summary>Bytes of a file of packed weights; null if it cannot be one.</summary>
    public static long? LengthOf(string path)
    {
        try
        {
            using PanelFile panels = PanelFile.Open(path);
            return panels.Length;
        }
        catch (InvalidDataException)
        {
            return null;
        }
    }

    // Never in the place of the exact ones, nor these in theirs: who asked for the one must not get the other.
    private static void UseRounded(PanelStore store, Gemma2Checkpoint model, string name, Streams streams)
    {
        string shown = Printable.Escape(name), command = $"'kernelscope pack --model {shown} --as bf16'";
        string path = PanelCache.Find(model, Environment.GetEnvironmentVariable, rounded: true)
            ?? throw new WorkException($"{shown} has no packed weights that were rounded to bfloat16; {command} makes them.");
        string? problem = Problem(
            model, path, verify: false, panels => ModelPanels.Use(store, model, panels, rounded: true), rounded: true);
        if (problem is not null)
            throw new WorkException($"{problem.TrimEnd('.')}; {command} makes it anew.");
        streams.Error.WriteLine($"weights rounded to bfloat16: {Printable.Escape(path)}");
    }

    /// <summary>What keeps a file from being used, in a sentence; null if nothing does.</summary>
    /// <param name="model">The model.</param>
    /// <param name="path">The file.</param>
    /// <param name="verify">Whether all panels are compared with their checksums, which reads them; else each matrix is when a product first needs it.</param>
    /// <param name="use">Takes the file, once it is known to be sound; null: it is only compared with the model.</param>
    /// <param name="rounded">Whether it must hold rounded weights; null: it may.</param>
    public static string? Problem(Gemma2Checkpoint model, string path, bool verify, Action<PanelFile>? use = null, bool? rounded = false)
    {
        PanelFile? panels = null;
        try
        {
            panels = PanelFile.Open(path, model.IsInMemory);
            if (verify)
                panels.Verify();
            if (use is null)
            {
                ModelPanels.Check(model, panels, rounded ?? panels.IsRounded);
                panels.Dispose();
            }
            else
            {
                use(panels);
            }

            return null;
        }
        catch (InvalidDataException e)
        {
            panels?.Dispose();
            return e.Message;
        }
    }
}
