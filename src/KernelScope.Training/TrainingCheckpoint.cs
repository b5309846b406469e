using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Training;

/// <summary>Everything that a trainer needs to go on as if it had never stopped, in a folder that appears whole or not at all.</summary>
internal static class TrainingCheckpoint
{
    private const string Parameters = "parameters.safetensors", Adam = "adam.safetensors", State = "state.json", Reader = "rows.state",
        Sums = "SHA256SUMS", Prefix = "step-", Damaged = ".damaged", LastFired = "last_fired", Interval = "interval";
    private const int MaxStateLength = 1 << 20;
    private static readonly string[] Names = [Parameters, Adam, Reader, State];

    /// <summary>Writes <c>step-000100000</c> below a folder.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(SaeTrainer trainer, string folder, long logLength)
    {
        OutputPlace.CreateFolder(folder);
        string path = Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{trainer.Step:000000000}"));
        if (Directory.Exists(path))
            return;
        Sweep(folder);
        try
        {
            WriteFolder(trainer, path, logLength);
        }
        catch
        {
            // The disk may be full: what is left of the checkpoint would keep room that others need.
            Sweep(folder);
            throw;
        }
    }

    /// <summary>Removes what is left of checkpoints that were not finished.</summary>
    public static void Sweep(string folder)
    {
        foreach (string left in Directory.Exists(folder) ? Directory.GetDirectories(folder, $"{Prefix}*.tmp") : [])
            Directory.Delete(left, recursive: true);
    }

    private static void WriteFolder(SaeTrainer trainer, string path, long logLength)
    {
        string temporary = $"{path}.tmp";
        OutputPlace.CreateFolder(temporary);
        TrainingParameters p = trainer.Parameters;
        WriteTensors(Path.Combine(temporary, Parameters), p, m => m.Values, []);
        WriteTensors(Path.Combine(temporary, Adam), p, m => m.Moment, trainer.LastFired, trainer.Interval.ToArray());
        using (var reader = AtomicFile.Create(Path.Combine(temporary, Reader)))
        {
            trainer.Rows.SaveState(reader.Stream);
            reader.Commit();
        }

        JsonFile.Write(Path.Combine(temporary, State), json =>
        {
            json.WriteStartObject();
            json.WriteNumber("format", 1);
            json.WriteNumber("step", trainer.Step);
            json.WriteNumber("rows", trainer.Rows.Position);
            json.WriteString("options_sha256", OptionsJson.HashOf(trainer));
            json.WriteNumber("log_length", logLength);
            json.WriteNumber("last_l0", trainer.LastL0);
            if (trainer.SteeredSparsity is double steered)
                json.WriteNumber("lambda", steered);
            if (trainer.CommonThreshold is { } threshold)
                json.WriteNumber("common_threshold", threshold);
            json.WriteEndObject();
        });
        WriteSums(temporary);
        Directory.Move(temporary, path);
    }

    /// <summary>The newest checkpoint below a folder, whole or not; null if there is none.</summary>
    public static string? Newest(string folder) => All(folder).LastOrDefault();

    /// <summary>The newest whole checkpoint below a folder, and the newer ones that are damaged, each with the reason.</summary>
    /// <returns>Null if there is no checkpoint.</returns>
    /// <exception cref="InvalidDataException">There are some, and none is whole.</exception>
    public static (string Path, IReadOnlyList<(string Path, string Reason)> Skipped)? NewestWhole(string folder)
    {
        var skipped = new List<(string Path, string Reason)>();
        foreach (string path in All(folder).Reverse())
        {
            if (DamageOf(path) is not string reason)
                return (path, skipped);
            skipped.Add((path, reason));
        }

        return skipped.Count == 0 ? null : throw BadFile.At(folder, $"no checkpoint in it is whole: {string.Join("; ",
            skipped.Select(s => $"{Path.GetFileName(s.Path)}: {s.Reason}"))}. Without --resume, in another folder, training begins anew.");
    }

    /// <summary>Puts a damaged checkpoint out of the way, under another name, and gives that.</summary>
    /// <exception cref="IOException">It cannot be renamed.</exception>
    public static string SetAside(string path)
    {
        string aside = path + Damaged;
        if (Directory.Exists(aside))
            Directory.Delete(aside, recursive: true);
        Directory.Move(path, aside);
        return aside;
    }

    /// <summary>Removes all but the last two, and those at multiples of a number of steps.</summary>
    public static void Prune(string folder, long keepEvery)
    {
        foreach (string path in All(folder).SkipLast(2))
        {
            long step = long.Parse(Path.GetFileName(path).AsSpan(Prefix.Length), CultureInfo.InvariantCulture);
            if (keepEvery <= 0 || step % keepEvery != 0)
                Directory.Delete(path, recursive: true);
        }
    }

    /// <summary>Brings a trainer to where a checkpoint was written, and gives the length of the log then.</summary>
    /// <exception cref="InvalidDataException">It belongs to other options, rows or arithmetic, or is damaged.</exception>
    public static long Load(SaeTrainer trainer, string path)
    {
        string statePath = Path.Combine(path, State);
        using JsonDocument document = JsonText.ReadObject(statePath, MaxStateLength);
        JsonElement state = document.RootElement;
        if (Number(state, "format", statePath) != 1)
            throw BadFile.At(statePath, "the format of the checkpoint is not 1, the only one there is.");
        if (!state.TryGetProperty("options_sha256", out JsonElement hash) || hash.GetString() != OptionsJson.HashOf(trainer))
            throw BadFile.At(statePath,
                "the checkpoint belongs to other options, other rows or another device; give those with which the training began.");
        TrainingParameters p = trainer.Parameters;
        using (var file = SafetensorsFile.Open(Path.Combine(path, Parameters)))
            ReadTensors(trainer.Device, file, p, m => m.Values);
        using (var file = SafetensorsFile.Open(Path.Combine(path, Adam)))
        {
            ReadTensors(trainer.Device, file, p, m => m.Moment);
            Exact(file, LastFired, DType.I64, trainer.LastFired.Length).ToInt64s().CopyTo(trainer.LastFired, 0);
            trainer.Interval.Load(Doubles(Exact(file, Interval, DType.F64, trainer.Interval.ToArray().Length)));
        }

        if (p.Threshold is { } threshold)
            p.UpdateTheta(p.Read(threshold.Values));
        using (FileStream reader = File.OpenRead(Path.Combine(path, Reader)))
            trainer.Rows.LoadState(reader);
        trainer.Step = Number(state, "step", statePath);
        // Checkpoints of earlier versions have none.
        trainer.LastL0 = state.TryGetProperty("last_l0", out JsonElement last) ? last.GetDouble() : 0;
        if (trainer.SteeredSparsity is not null)
            trainer.Sparsity.Value = state.GetProperty("lambda").GetDouble();
        if (trainer.CommonThreshold is not null)
            trainer.CommonThreshold = state.GetProperty("common_threshold").GetDouble();
        return Number(state, "log_length", statePath);
    }

    /// <summary>Writes the hash of each file, as sha256sum does.</summary>
    private static void WriteSums(string folder)
    {
        using var file = AtomicFile.Create(Path.Combine(folder, Sums));
        foreach (string name in Names)
            file.Stream.Write(Encoding.UTF8.GetBytes($"{HashOf(Path.Combine(folder, name))}  {name}\n"));
        file.Commit();
    }

    /// <summary>What is wrong with a checkpoint's files; null if they are as they were written.</summary>
    private static string? DamageOf(string path)
    {
        if (Names.Append(Sums).FirstOrDefault(name => !File.Exists(Path.Combine(path, name))) is string missing)
            return $"{missing} is missing";
        string[] lines = File.ReadAllLines(Path.Combine(path, Sums));
        string? bad = Names.FirstOrDefault(name => !lines.Contains($"{HashOf(Path.Combine(path, name))}  {name}", StringComparer.Ordinal));
        return bad is null ? null : $"{bad} is not what {Sums} says of it";
    }

    private static string HashOf(string path)
    {
        using FileStream file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    private static IEnumerable<string> All(string folder) => !Directory.Exists(folder)
        ? []
        : Directory.EnumerateDirectories(folder, $"{Prefix}*").Where(path => long.TryParse(Path.GetFileName(path).AsSpan(Prefix.Length),
            NumberStyles.None, CultureInfo.InvariantCulture, out _)).Order(StringComparer.Ordinal);

    private static long Number(JsonElement state, string name, string path) =>
        state.TryGetProperty(name, out JsonElement value) && value.TryGetInt64(out long number) && number >= 0 ? number
            : throw BadFile.At(path, $"'{name}' is not a number from 0 on.");

    private static void WriteTensors(string path, TrainingParameters p, Func<TrainedMatrix, Mat> which, ReadOnlySpan<long> lastFired,
        params ReadOnlySpan<double> interval)
    {
        List<TensorInfo> infos = [.. p.All.Select(m => new TensorInfo(m.Name, DType.F32, [m.Values.Rows, m.Values.Columns]))];
        if (!interval.IsEmpty)
        {
            infos.Add(new TensorInfo(LastFired, DType.I64, [lastFired.Length]));
            infos.Add(new TensorInfo(Interval, DType.F64, [interval.Length]));
        }

        using var writer = new SafetensorsWriter(path, infos);
        foreach (TrainedMatrix matrix in p.All)
            writer.Append<float>(p.Read(which(matrix)));
        if (!interval.IsEmpty)
        {
            writer.Append(lastFired);
            writer.Append(interval);
        }

        writer.Commit();
    }

    private static void ReadTensors(Device device, SafetensorsFile file, TrainingParameters p, Func<TrainedMatrix, Mat> which)
    {
        foreach (TrainedMatrix matrix in p.All)
            device.Write(Exact(file, matrix.Name, DType.F32, (long)matrix.Values.Rows * matrix.Values.Columns).ToFloats(), which(matrix));
    }

    private static TensorView Exact(SafetensorsFile file, string name, DType type, long count)
    {
        TensorView tensor = file[name];
        return tensor.DType == type && tensor.ElementCount == count ? tensor : throw BadFile.At(file.Path,
            $"{tensor.Info} is not the {count} values of this training.");
    }

    private static unsafe double[] Doubles(TensorView tensor)
    {
        using TensorView.Reading reading = tensor.Read();
        double[] values = new double[tensor.ElementCount];
        new ReadOnlySpan<byte>(tensor.Pointer,
            values.Length * sizeof(double)).CopyTo(System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan()));
        return values;
    }
}
