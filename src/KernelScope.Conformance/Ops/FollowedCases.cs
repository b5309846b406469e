using KernelScope.Devices;
using KernelScope.Files;

namespace KernelScope.Conformance.Ops;

/// <summary>
/// Ops right behind the product whose result they change: a device may do both at once. Compared are the bits of two calls with a wait between them, each of which has
/// cases of its own.
/// </summary>
internal static class FollowedCases
{
    private const int Inputs = 40, Outputs = 48;

    public static IEnumerable<ConformanceCase> All()
    {
        foreach (DType dtype in (DType[])[DType.BF16, DType.F16, DType.F32])
        {
            yield return Softcap(1, dtype);
            yield return Softcap(8, dtype);
            yield return RopeThenStore(dtype, DType.F32);
            yield return RopeThenStore(dtype, DType.BF16);
            yield return AddNormedThenNorm(dtype);
        }
    }

    private static ConformanceCase Softcap(int rows, DType dtype) =>
        new(nameof(Device.Softcap), Name(rows, dtype), (long)rows * Inputs * Outputs, trial =>
        {
            TrialMatrix y = trial.Output("y", rows, Outputs);
            Run(trial, y, dtype, s => s.Device.Softcap(s[y], 3f));
        });

    private static ConformanceCase RopeThenStore(DType dtype, DType cacheType) =>
        new(nameof(Device.RopeThenStore), RopeCases.NameOf(cacheType) + Name(1, dtype), Inputs * Outputs, trial =>
        {
            const int HeadDim = 12, Position = 9;
            TrialMatrix qkv = trial.Output("qkv", 1, Outputs), table = RopeCases.Table(trial, Position + 1, HeadDim, Layout.Dense);
            TrialCache cache = RopeCases.Cache(trial, 1, HeadDim, 8, cacheType);
            Run(trial, qkv, dtype, s => s.Device.RopeThenStore(s[qkv], Position, s[table], s[cache]));
        });

    private static ConformanceCase AddNormedThenNorm(DType dtype) =>
        new(nameof(Device.AddNormedThenNorm), Name(1, dtype), Inputs * Outputs, trial =>
        {
            TrialMatrix branch = trial.Scratch("branch", 1, Outputs, new float[Outputs]), post = trial.Input("postGain", 1, Outputs),
                next = trial.Input("nextGain", 1, Outputs), resid = trial.InOut("resid", 1, Outputs, size: 10),
                normed = trial.Output("normed", 1, Outputs);
            Run(trial, branch, dtype, s => s.Device.AddNormedThenNorm(s[branch], s[post], s[next], 1e-6f, s[resid], s[normed]));
        });

    private static string Name(int rows, DType dtype) => $"right behind a product of {rows} row(s), {dtype}";

    private static void Run(Trial trial, TrialMatrix y, DType dtype, Action<Side> op)
    {
        TrialMatrix x = trial.Input("x", y.Rows, Inputs);
        TrialWeight w = trial.Weight("w", Outputs, Inputs, new WeightForm(dtype));
        trial.Run(s => Both(s, _ => { }));
        trial.RunAgain("the product, a wait, the op", s => Both(s, device => device.Synchronize()));

        void Both(Side s, Action<Device> between)
        {
            s.Device.Linear(s[x], s[w], s[y]);
            between(s.Device);
            op(s);
        }
    }
}
