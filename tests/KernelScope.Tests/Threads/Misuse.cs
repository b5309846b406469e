using System.Globalization;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Threads;

/// <summary>What servers do to a model, in a process of its own. On files: embedded weights are never unmapped.</summary>
internal static class Misuse
{
    private const int Threads = 4;

    /// <summary>SAEs for the model's width of 48: plain, normalising, with b_dec taken off the input, both, and a transcoder with a skip path.</summary>
    private static readonly string[] Saes =
        ["sl-jumprelu", "sl-jumprelu-layer-norm", "sl-jumprelu-b-dec-to-input", "sl-jumprelu-layer-norm-b-dec",
            "sl-jumprelu-skip-transcoder"];

    /// <summary>What can be disposed under a generation.</summary>
    public static readonly string[] Targets = ["model", "sae", "device", "model checkpoint", "sae checkpoint", "session", "everything"];

    private static string ModelFolder => Fixtures.Path("gemma2", "models", "base");

    /// <summary>Generations of several threads over one model and SAE give what each gives alone.</summary>
    public static IEnumerable<string> Together(int workers, int generations, int runs)
    {
        foreach (string name in Saes)
        {
            using CpuDevice device = new(workers);
            using Gemma2Model model = Gemma2Model.Open(device, ModelFolder);
            using JumpReluSae sae = JumpReluSae.Open(device, SaeFolder(name));
            var alone = Enumerable.Range(0, Threads * generations).Select(n => new SampledRun(n).Run(model, sae)).ToArray();
            if (alone.All(a => a.Features.Length == 0))
                yield return $"{name}: no feature is active, so nothing is compared";
            for (int run = 0; run < runs; run++)
            {
                var together = new (int[] Tokens, (int, float)[] Features)[alone.Length];
                Parallel(Threads, t =>
                {
                    for (int n = t; n < together.Length; n += Threads)
                        together[n] = new SampledRun(n).Run(model, sae);
                });
                for (int n = 0; n < alone.Length; n++)
                {
                    if (!together[n].Tokens.AsSpan().SequenceEqual(alone[n].Tokens)
                        || !together[n].Features.AsSpan().SequenceEqual(alone[n].Features))
                        yield return $"{name}, {workers} workers, run {run}: generation {n} differs from what it is alone";
                }
            }
        }
    }

    /// <summary>Disposes something while threads generate: they may only end with <see cref="ObjectDisposedException"/>, and what is left must work.</summary>
    public static IEnumerable<string> Disposed(string target, int workers, int runs)
    {
        for (int run = 0; run < runs; run++)
        {
            using CpuDevice device = new(workers);
            Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(ModelFolder);
            SaeCheckpoint saeCheckpoint = SaeCheckpoint.Open(SaeFolder(Saes[run % Saes.Length]));
            using Gemma2Model model = Gemma2Model.Load(device, checkpoint), second = Gemma2Model.Load(device, checkpoint);
            using JumpReluSae sae = JumpReluSae.Load(device, saeCheckpoint), secondSae = JumpReluSae.Load(device, saeCheckpoint);
            Session?[] sessions = new Session?[Threads];
            var failures = new Exception?[Threads];
            int started = 0;
            Thread[] threads = Start(Threads, t =>
            {
                try
                {
                    for (int n = 0; ; n++)
                    {
                        using Session session = model.NewSession(contextLength: 64);
                        sessions[t] = session;
                        Interlocked.Increment(ref started);
                        new SampledRun((Threads * n) + t).Run(model, sae, session);
                        if (n > 200)
                            return;
                    }
                }
                catch (Exception e)
                {
                    failures[t] = e;
                }
            });
            SpinWait.SpinUntil(() => Volatile.Read(ref started) >= Threads);
            Thread.Sleep(new Random(run).Next(20));
            foreach (IDisposable? one in TargetsOf(target, device, model, sae, checkpoint, saeCheckpoint, sessions))
                one?.Dispose();
            bool goesOn = target.EndsWith("checkpoint", StringComparison.Ordinal);
            if (goesOn)
                model.Dispose();
            // A session may be through before it is disposed, and its thread then has the next.
            while (target == "session" && Array.Exists(threads, thread => thread.IsAlive))
            {
                foreach (Session? session in sessions)
                    session?.Dispose();
            }

            foreach (Thread thread in threads)
                thread.Join();
            foreach (Exception? e in failures)
            {
                if (e is not ObjectDisposedException)
                    yield return $"{target}, {workers} workers, run {run}: {e?.ToString() ?? "a generation never ended"}";
            }

            if (target is "device" or "everything")
                continue;
            // What was loaded beside it from the same files lives on.
            new SampledRun(run).Run(second, secondSae);
        }
    }

    /// <summary>Work on a device's threads that calls the device is refused, on whichever of them it runs, and the device goes on.</summary>
    public static IEnumerable<string> HostWork(int workers)
    {
        using CpuDevice device = new(workers);
        Mat x = device.CreateMat(1, 4, "x");
        using DeviceBuffer owned = x.Buffer;
        int refused = 0, done = 0;
        device.ForEach(64, _ =>
        {
            try
            {
                device.AddScaled(x, 1f, x);
            }
            catch (InvalidOperationException)
            {
                Interlocked.Increment(ref refused);
            }
        });
        if (refused != 64)
            yield return $"{refused} of 64 units were refused";
        // Another thread's ops wait for the work, and run.
        Thread other = new(() => device.AddScaled(x, 1f, x));
        device.ForEach(4, unit =>
        {
            if (unit == 0)
                other.Start();
            Interlocked.Increment(ref done);
        });
        other.Join();
        if (done != 4)
            yield return $"{done} of 4 units were done";
    }

    /// <summary>Devices that nobody disposed give their threads back: those of 40 devices would be 280.</summary>
    private static int Forgotten()
    {
        for (int n = 0; n < 40; n++)
            Forget();
        for (int n = 0; n < 100; n++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            using var self = System.Diagnostics.Process.GetCurrentProcess();
            if (self.Threads.Count < 100)
                return 0;
            Thread.Sleep(50);
        }

        Console.WriteLine("the threads of forgotten devices are still there");
        return 1;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static void Forget()
    {
        CpuDevice device = new(8);
        Mat x = device.CreateMat(64, 1024, "x");
        device.AddScaled(x, 1f, x);
    }

    private static IDisposable?[] TargetsOf(string target, Device device, Gemma2Model model, JumpReluSae sae, Gemma2Checkpoint checkpoint,
        SaeCheckpoint saeCheckpoint, Session?[] sessions) => target switch
        {
            "model" => [model],
            "sae" => [sae],
            "device" => [device],
            "model checkpoint" => [checkpoint],
            "sae checkpoint" => [saeCheckpoint],
            "session" => sessions,
            _ => [checkpoint, saeCheckpoint, device, sae, model, .. sessions],
        };

    private static string SaeFolder(string name) => Fixtures.Path("sae", "saes", name);

    private static void Parallel(int count, Action<int> work)
    {
        Exception? failure = null;
        Thread[] threads = Start(count, t =>
        {
            try
            {
                work(t);
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        foreach (Thread thread in threads)
            thread.Join();
        if (failure is not null)
            throw new InvalidOperationException("A generation failed.", failure);
    }

    private static Thread[] Start(int count, Action<int> work)
    {
        var threads = new Thread[count];
        for (int t = 0; t < count; t++)
        {
            int number = t;
            threads[t] = new Thread(() => work(number));
            threads[t].Start();
        }

        return threads;
    }

    /// <summary>The child's side: says what is wrong, and 1 if anything is.</summary>
    public static int Run(string[] args)
    {
        if (args[0] == "forgotten")
            return Forgotten();
        int workers = int.Parse(args[1], CultureInfo.InvariantCulture), count = int.Parse(args[2], CultureInfo.InvariantCulture),
            runs = int.Parse(args[3], CultureInfo.InvariantCulture);
        string[] wrong =
            [.. args[0] switch { "together" => Together(workers, count, runs), "host-work" =>
                HostWork(workers), _ => Disposed(args[4], workers, runs) }];
        foreach (string line in wrong.Take(5))
            Console.WriteLine(line);
        return wrong.Length == 0 ? 0 : 1;
    }
}
