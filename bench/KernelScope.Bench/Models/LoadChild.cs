using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using KernelScope.Bench.Peers;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Model;

namespace KernelScope.Bench.Models;

/// <summary>What a model is loaded from.</summary>
internal enum LoadFrom
{
    /// <summary>The mapped weights as they are stored.</summary>
    Map,

    /// <summary>A panel file that is there.</summary>
    Panels,

    /// <summary>A panel file that is made first, as <c>--pack</c> does where there is none.</summary>
    Pack,
}

/// <summary>What loading cost.</summary>
/// <param name="Ready">Seconds from opening the folder to the choice of the first token.</param>
/// <param name="Opened">Of them, until the model stood with a session.</param>
/// <param name="PeakBytes">The most memory that the process had, mapped pages included.</param>
internal readonly record struct LoadCost(double Ready, double Opened, long PeakBytes);

/// <summary>Loads a model in a process of its own, whose memory holds nothing else: this program, called with <see cref="Verb"/>.</summary>
internal static class LoadChild
{
    /// <summary>The word by which the program knows that it is the child.</summary>
    public const string Verb = "load-child";

    /// <summary>Runs the child.</summary>
    public static LoadCost Run(string folder, LoadFrom from, int threads, CancellationToken cancellation)
    {
        string self = Environment.ProcessPath ?? throw new InvalidOperationException("The path of this program is not known.");
        // Run by dotnet, the program is its first argument.
        bool hosted = Path.GetFileNameWithoutExtension(self).Equals("dotnet", StringComparison.OrdinalIgnoreCase);
        (string output, _) = OutsideProgram.Run(self, [.. hosted ? [typeof(LoadChild).Assembly.Location] : Array.Empty<string>(), Verb,
            folder, from.ToString(), threads.ToString(CultureInfo.InvariantCulture)], cancellation);
        using JsonDocument result = JsonDocument.Parse(output);
        JsonElement root = result.RootElement;
        return new LoadCost(root.GetProperty("ready").GetDouble(), root.GetProperty("opened").GetDouble(), root.GetProperty("peak")
            .GetInt64());
    }

    /// <summary>The child: loads, says one token, and prints what it cost.</summary>
    public static int Load(ReadOnlySpan<string> args)
    {
        string folder = args[0];
        LoadFrom from = Enum.Parse<LoadFrom>(args[1]);
        string? made = null;
        long start = Stopwatch.GetTimestamp();
        try
        {
            using var device = new CpuDevice(int.Parse(args[2], CultureInfo.InvariantCulture));
            Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(folder);
            if (from == LoadFrom.Pack)
                ModelPanels.Write(checkpoint, made = Path.Combine(folder, WeightsFolder.LoadPanelsName));
            if (from != LoadFrom.Map)
                ModelPanels.Use(device.Panels, checkpoint, PanelFile.Open(made ?? PanelCache.BesidePath(checkpoint)));
            using var model = new OurModel(device, checkpoint, context: 64);
            double opened = Stopwatch.GetElapsedTime(start).TotalSeconds;
            model.Decode([checkpoint.Config.BosId]);
            double ready = Stopwatch.GetElapsedTime(start).TotalSeconds;
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $$"""{"ready": {{ready}}, "opened": {{opened}}, "peak": {{PeakBytes()}}}"""));
            return 0;
        }
        finally
        {
            if (made is not null)
                File.Delete(made);
        }
    }

    private static long PeakBytes()
    {
        const string Peak = "VmHWM:";
        if (OperatingSystem.IsLinux())
        {
            string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith(Peak, StringComparison.Ordinal));
            return long.Parse(line[Peak.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture) * 1024;
        }

        using Process self = Process.GetCurrentProcess();
        return self.PeakWorkingSet64;
    }
}
