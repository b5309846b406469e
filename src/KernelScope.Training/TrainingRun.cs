using System.Diagnostics;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Sae;

namespace KernelScope.Training;

/// <summary>A trainer's steps with everything around them on disk: log, checkpoints, and at the end the SAE in both layouts, read back and
/// checked.</summary>
/// <remarks>
/// A run that was killed at any moment and resumed makes the same files as one that was not, but for the times in its log. For one caller
/// at a time.
/// </remarks>
/// <example>
/// <code>
/// using var rows = StoredRows.Open("acts.safetensors", "resid_post.3");
/// using var trainer = new SaeTrainer(device, rows, new TrainingOptions { Width = 2048, TargetL0 = 20, Steps = 20_000, Batch = 1024 });
/// using var training = new TrainingRun(trainer, new TrainingFiles { Folder = "sae", Place = new TrainedPlace { Site = HookPoint.Parse("resid_post.3") } });
/// TrainingOutcome outcome = training.Execute();
/// </code>
/// </example>
public sealed class TrainingRun : IDisposable
{
    // Read back from both layouts before a run says that it is done.
    private const int CheckedRows = 1000;
    private const string CheckpointsName = "checkpoints";

    /// <summary>The folder with the SAE as SAELens has it, the file that says that a training has ended, and the log.</summary>
    internal const string SaeLensName = "saelens", SummaryName = "training.json", LogName = "log.jsonl";

    private readonly SaeTrainer _trainer;
    private readonly TrainingFiles _files;
    private readonly string _checkpoints;
    private readonly string _logPath;
    private readonly Stopwatch _watch = new();
    private IProgress<TrainingProgress>? _progress;
    private TrainingLog? _log;
    private bool _isOver;
    private ValidationResult? _validation;
    private TimeSpan _last;
    private long _first;
    private long _intervalStart;

    /// <summary>A trainer with the files that its training writes.</summary>
    /// <param name="trainer">Before its first step.</param>
    /// <param name="files">What to write.</param>
    /// <exception cref="ArgumentException">There are files of an earlier run, and <see cref="TrainingFiles.Resume"/> is not set; or an SAE
    /// is there, and no checkpoint leads to it.</exception>
    /// <exception cref="NotSupportedException">What is trained has no file format.</exception>
    public TrainingRun(SaeTrainer trainer, TrainingFiles files)
    {
        ArgumentNullException.ThrowIfNull(trainer);
        ArgumentNullException.ThrowIfNull(files);
        files.Require();
        (_trainer, _files) = (trainer, files);
        _checkpoints = Path.Combine(files.Folder, CheckpointsName);
        _logPath = files.Log ?? Path.Combine(files.Folder, LogName);
        _ = SaeExport.Architecture(trainer.Options.Activation, trainer.Parameters.IsTranscoder, trainer.Options.Skip);
        if (TrainingCheckpoint.Newest(_checkpoints) is not { } newest)
            RequireNoSae();
        else if (!files.Resume)
            throw new ArgumentException($"{newest} is a checkpoint of an earlier run; --resume goes on from it, or choose another folder.",
                nameof(files));
    }

    /// <summary>Measures the loss of the model with the SAE in it at each validation; null: it is not measured.</summary>
    internal ValidationLoss? Loss { get; init; }

    /// <summary>Trains to the last step, and writes the SAE.</summary>
    /// <param name="progress">Told with each line of the log.</param>
    /// <param name="cancellationToken">Ends it between two steps, after a checkpoint.</param>
    /// <exception cref="OperationCanceledException">Cancelled; the folder holds a checkpoint.</exception>
    /// <exception cref="TrainingException">The loss or a threshold left its range.</exception>
    /// <exception cref="IOException">Something cannot be written.</exception>
    /// <exception cref="InvalidOperationException">It was executed before: its log would begin anew.</exception>
    public TrainingOutcome Execute(IProgress<TrainingProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        try
        {
            Begin(progress);
            while (!IsAtEnd)
            {
                if (cancellationToken.IsCancellationRequested)
                    SaveCheckpoint();
                cancellationToken.ThrowIfCancellationRequested();
                Advance(cancellationToken);
            }

            return End(cancellationToken);
        }
        finally
        {
            Dispose();
        }
    }

    /// <summary>Closes the log, as <see cref="Execute"/> does at its end.</summary>
    public void Dispose()
    {
        _isOver = true;
        _log?.Dispose();
    }

    /// <summary>Whether all steps are done.</summary>
    internal bool IsAtEnd => _trainer.Step >= _trainer.Options.Steps;

    /// <summary>Steps done.</summary>
    internal long Step => _trainer.Step;

    /// <summary>Goes to where the run was, and opens its log, until <see cref="Dispose"/>.</summary>
    internal void Begin(IProgress<TrainingProgress>? progress)
    {
        if (_isOver)
            throw new InvalidOperationException("This training run has ended; a new one, with TrainingFiles.Resume, goes on from its " +
                "checkpoint.");
        OutputPlace.CreateFolder(_files.Folder);
        _progress = progress;
        long logLength = _files.Resume ? LoadCheckpoint() : 0;
        _log = new TrainingLog(_logPath, logLength);
        // Nobody else trains here: the log would not have opened.
        TrainingCheckpoint.Sweep(_checkpoints);
        if (logLength == 0)
            _log.Write(WriteOptions);
        _watch.Start();
        _first = _intervalStart = _trainer.Rows.Position;
        _last = _watch.Elapsed;
    }

    /// <summary>Does one step, with what follows it: a line of the log, a validation, a checkpoint.</summary>
    internal void Advance(CancellationToken cancellationToken)
    {
        bool logs = (_trainer.Step + 1) % _files.LogEvery == 0 || _trainer.Step + 1 == _trainer.Options.Steps;
        _trainer.Advance(norms: logs);
        if (logs)
            Report(_log!);
        if (_files.ValidateEvery > 0 && _trainer.Step % _files.ValidateEvery == 0 && !IsAtEnd)
            Validate(_log!, cancellationToken);
        if (_files.CheckpointEvery > 0 && _trainer.Step % _files.CheckpointEvery == 0)
            SaveCheckpoint();
    }

    /// <summary>Measures and exports what was trained.</summary>
    internal TrainingOutcome End(CancellationToken cancellationToken)
    {
        Validate(_log!, cancellationToken);
        double seconds = _watch.Elapsed.TotalSeconds;
        List<string> export = Export(_log!);
        return new TrainingOutcome
        {
            Steps = _trainer.Step,
            Rows = _trainer.Rows.Position,
            Validation = _validation,
            Lambda = _trainer.Sparsity.Value,
            Dead = _trainer.Dead,
            Seconds = seconds,
            RowsPerSecond = (_trainer.Rows.Position - _first) / seconds,
            Export = export,
            Log = _log!.Path,
        };
    }

    /// <summary>Writes a checkpoint of this step.</summary>
    internal void SaveCheckpoint()
    {
        _log!.FlushToDisk();
        TrainingCheckpoint.Write(_trainer, _checkpoints, _log.Length);
        TrainingCheckpoint.Prune(_checkpoints, _files.KeepEvery);
    }

    /// <summary>Refuses to write over an SAE that no checkpoint here leads to.</summary>
    private void RequireNoSae()
    {
        string folder = _files.Folder;
        if (File.Exists(Path.Combine(folder, SummaryName)))
            throw new ArgumentException($"{folder} holds a training that has ended, and no checkpoint to go on from; choose another " +
                "folder.", "files");
        // Exports without a summary are this training's own where it was killed between the two.
        if (_files.Resume && File.Exists(_logPath))
            return;
        string width = Path.Combine(folder, SaeExport.WidthPath(_trainer.Options.Width, _trainer.Parameters.IsTranscoder, _files.Place));
        IEnumerable<string> found = Directory.Exists(width)
            ? Directory.EnumerateFiles(width, SaeCheckpoint.ParamsName, SearchOption.AllDirectories) : [];
        string saeLens = Path.Combine(folder, SaeLensName);
        if (found.Append(Path.Combine(saeLens, SaeCheckpoint.WeightsName)).FirstOrDefault(File.Exists) is string sae)
            throw new ArgumentException($"{sae} is an SAE that is there already, and training would write beside or over it; choose " +
                "another folder.", "files");
    }

    /// <summary>Goes to the newest whole checkpoint, and gives the length of the log then; 0 if there is none.</summary>
    private long LoadCheckpoint()
    {
        if (TrainingCheckpoint.NewestWhole(_checkpoints) is not ({ } newest, { } skipped))
            return 0;
        long logLength = TrainingCheckpoint.Load(_trainer, newest);
        foreach ((string path, string reason) in skipped)
        {
            _files.Warn?.Invoke($"the checkpoint {path} is damaged ({reason}); training goes on from {Path.GetFileName(newest)}, and the " +
                $"damaged one is now called {Path.GetFileName(TrainingCheckpoint.SetAside(path))}.");
        }

        return logLength;
    }

    private void Validate(TrainingLog log, CancellationToken cancellationToken)
    {
        if (_trainer.Validate() is not { } result)
            return;
        if (Loss is { } loss)
            result = loss.AddTo(result, _trainer.Fold(), cancellationToken);
        _validation = result;
        log.Write(json =>
        {
            json.WriteStartObject();
            json.WritePropertyName("validation");
            WriteValidation(json, result);
            json.WriteEndObject();
        });
    }

    private void Report(TrainingLog log)
    {
        IntervalSums sums = _trainer.Interval;
        // Adam's moment would keep it for ever, and the parameter would not move any more.
        foreach ((string name, double squares) in _trainer.SquaredGradients)
        {
            if (!double.IsFinite(squares))
                throw new TrainingException($"step {_trainer.Step - 1}: the gradient of {name} is out of range; a lower sparsity or " +
                    "learning rate helps.");
        }

        TimeSpan now = _watch.Elapsed;
        double speed = (_trainer.Rows.Position - _intervalStart) / (now - _last).TotalSeconds;
        int dead = _trainer.Dead;
        log.Write(json => WriteInterval(json, sums, dead, now.TotalSeconds, speed));
        _progress?.Report(new TrainingProgress
        {
            Step = _trainer.Step,
            Steps = _trainer.Options.Steps,
            Loss = sums.Loss,
            L0 = sums.L0,
            Lambda = sums.Lambda,
            Fvu = sums.Fvu,
            Dead = dead,
            RowsPerSecond = speed
        });
        _trainer.LastL0 = sums.L0;
        sums.Clear();
        _intervalStart = _trainer.Rows.Position;
        _last = now;
    }

    private void WriteOptions(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WritePropertyName("options");
        OptionsJson.Write(json, _trainer.Options);
        WriteOrigin(json);
        json.WriteEndObject();
    }

    private void WriteOrigin(Utf8JsonWriter json)
    {
        json.WriteString("site", _files.Place.Site?.ToString());
        json.WriteString("site_out", _files.Place.SiteOut?.ToString());
        json.WriteString("model", _files.Place.ModelName);
        json.WriteString("rows_identity", _trainer.Rows.Identity);
        json.WriteNumber("epoch_rows", _trainer.Rows.EpochRows);
        json.WriteNumber("validation_rows", _trainer.Rows.ValidationRows);
        json.WriteNumber("scale", _trainer.Scale);
        json.WriteNumber("scale_out", _trainer.TargetScale);
        json.WriteString("device", _trainer.Device.Name);
        json.WriteString("arithmetic", _trainer.Device.Arithmetic);
    }

    private void WriteInterval(Utf8JsonWriter json, IntervalSums sums, int dead, double seconds, double speed)
    {
        TrainingOptions options = _trainer.Options;
        json.WriteStartObject();
        json.WriteNumber("step", _trainer.Step);
        json.WriteNumber("rows", _trainer.Rows.Position);
        json.WriteNumber("lr", options.LearningRateAt(_trainer.Step - 1));
        json.WriteNumber("lambda", sums.Lambda);
        json.Number("loss", sums.Loss);
        json.Number("mse", sums.Mse);
        json.Number("l0", sums.L0);
        json.Number("fvu", sums.Fvu);
        if (options.Activation == TrainingActivation.JumpRelu)
            WriteThresholds(json, sums);
        json.WriteNumber("dead", dead);
        json.WriteNumber("decoder_norm_error", DecoderNormError());
        json.WriteStartObject("gradient_norms");
        foreach ((string name, double squares) in _trainer.SquaredGradients)
            json.WriteNumber(name, Math.Sqrt(squares));
        json.WriteEndObject();
        json.WriteNumber("seconds", Math.Round(seconds, 3));
        json.Number("rows_per_second", Math.Round(speed, 1));
        json.WriteEndObject();
    }

    private void WriteThresholds(Utf8JsonWriter json, IntervalSums sums)
    {
        float[] theta = _trainer.Parameters.Read(_trainer.Parameters.Theta);
        Array.Sort(theta);
        json.Number("kernel_hits", (double)sums.Near / sums.Rows);
        json.WriteNumber("theta_min", theta[0]);
        json.WriteNumber("theta_median", theta[theta.Length / 2]);
        json.WriteNumber("below_half_epsilon", theta.Count(value => value < _trainer.Options.Bandwidth / 2));
    }

    private double DecoderNormError()
    {
        Mat decoder = _trainer.Parameters.Decoder.Values;
        Mat norms = _trainer.Device.CreateMat(decoder.Rows, 1, "norms of decoder rows");
        using DeviceBuffer room = norms.Buffer;
        _trainer.Device.SquaredNorms(decoder, norms);
        return _trainer.Parameters.Read(norms).Max(square => Math.Abs(Math.Sqrt(square) - 1));
    }

    private static void WriteValidation(Utf8JsonWriter json, ValidationResult result)
    {
        json.WriteStartObject();
        json.WriteNumber("step", result.Step);
        json.WriteNumber("rows", result.Rows);
        json.Number("l0", result.L0);
        json.Number("fvu", result.Fvu);
        json.Number("mse", result.Mse);
        json.WriteStartArray("firing_histogram");
        foreach (int count in result.FiringHistogram)
            json.WriteNumberValue(count);
        json.WriteEndArray();
        if (result is { CleanLoss: { } clean, DeltaLoss: { } delta })
        {
            json.Number("delta_loss", delta);
            json.Number("ce_clean", clean);
        }

        json.WriteEndObject();
    }

    private List<string> Export(TrainingLog log)
    {
        List<string> paths = WriteExports();
        // The plain form's arrays go before their copies are read back: the two together would be more than was planned.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        long differences = CheckExports(paths);
        log.Write(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("export");
            foreach (string path in paths)
                json.WriteStringValue(Path.GetRelativePath(_files.Folder, path).Replace('\\', '/'));
            json.WriteEndArray();
            json.WriteNumber("changed_by_folding", differences);
            json.WriteEndObject();
        });
        log.FlushToDisk();
        WriteSummary(log, paths, differences);
        return paths;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private List<string> WriteExports()
    {
        // The plain form takes their place in memory: no step follows.
        _trainer.Parameters.ReleaseMoments();
        FoldedSae sae = _trainer.Fold();
        List<string> paths = [];
        // A k is nothing that a params.npz could say, and neither is a skip path.
        if (sae.K == 0 && sae.Skip.IsEmpty)
        {
            string path = Path.Combine(_files.Folder, SaeExport.GemmaScopePath(sae, _files.Place, _validation?.L0 ?? _trainer.LastL0));
            SaeExport.WriteParams(sae, path);
            paths.Add(path);
        }

        string folder = Path.Combine(_files.Folder, SaeLensName);
        SaeExport.WriteSaeLens(sae, _files.Place, folder);
        paths.Add(folder);
        return paths;
    }

    /// <summary>Both layouts must give the same codes, bit by bit; gives the number of codes in which they differ from those of training,
    /// which rounding at a threshold can do.</summary>
    private long CheckExports(List<string> paths)
    {
        int rows = (int)Math.Min(CheckedRows, Math.Min(_trainer.Rows.ValidationRows, _trainer.Options.Batch));
        if (rows == 0)
            return 0;
        var trained = new CodeList();
        _trainer.EncodeValidation(0, trained);
        CodeList[] read = [.. paths.Select(path => Encode(path, rows))];
        for (int n = 1; n < read.Length; n++)
        {
            if (!Same(read[0], read[n]))
                throw new InvalidDataException($"{paths[n]} gives other codes than {paths[0]} on {rows} rows; neither is to be trusted.");
        }

        long differences = 0;
        for (int r = 0; r < rows; r++)
        {
            HashSet<int> active = [.. trained.FeaturesOf(r)];
            active.SymmetricExceptWith(read[0].FeaturesOf(r).ToArray());
            differences += active.Count;
        }

        return differences;
    }

    private CodeList Encode(string path, int rows)
    {
        Device device = _trainer.Device;
        float[] inputs = new float[rows * _trainer.Rows.Width], targets = new float[rows * (_trainer.Rows.TargetWidth ?? 0)];
        _trainer.Rows.ReadValidation(0, inputs, targets);
        Mat x = device.CreateMat(rows, _trainer.Rows.Width, "rows to check");
        using DeviceBuffer room = x.Buffer;
        device.Write(inputs, x);
        using JumpReluSae sae = JumpReluSae.Open(device, path);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(x, codes);
        var list = new CodeList();
        device.Read(codes, list);
        return list;
    }

    private static bool Same(CodeList left, CodeList right) => left.Rows == right.Rows
        && left.RowStart.AsSpan(0, left.Rows + 1).SequenceEqual(right.RowStart.AsSpan(0, right.Rows + 1))
        && left.Feature.AsSpan(0, left.Count).SequenceEqual(right.Feature.AsSpan(0, right.Count))
        && left.Value.AsSpan(0, left.Count).SequenceEqual(right.Value.AsSpan(0, right.Count));

    private void WriteSummary(TrainingLog log, List<string> paths, long differences) => JsonFile.Write(Path.Combine(_files.Folder,
        SummaryName), json =>
    {
        json.WriteStartObject();
        json.WritePropertyName("options");
        OptionsJson.Write(json, _trainer.Options);
        WriteOrigin(json);
        json.WriteNumber("steps", _trainer.Step);
        json.WriteNumber("rows", _trainer.Rows.Position);
        if (_trainer.SteeredSparsity is double steered)
            json.WriteNumber("sparsity", steered);
        if (_validation is not null)
        {
            json.WritePropertyName("validation");
            WriteValidation(json, _validation);
        }

        json.WriteNumber("dead", _trainer.Dead);
        json.WriteNumber("changed_by_folding", differences);
        json.WriteStartArray("export");
        foreach (string path in paths)
            json.WriteStringValue(Path.GetRelativePath(_files.Folder, path).Replace('\\', '/'));
        json.WriteEndArray();
        json.WriteString("log_sha256", log.Hash());
        json.WriteString("code",
            typeof(TrainingRun).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion);
        json.WriteEndObject();
    });
}
