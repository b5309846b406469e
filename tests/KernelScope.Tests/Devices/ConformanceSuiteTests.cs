using KernelScope.Conformance;
using KernelScope.Devices;
using KernelScope.Devices.Reference;

namespace KernelScope.Tests.Devices;

/// <summary>That the suite is whole, and that it can see: every op broken in every general way, and mistakes in equations, must fail it.</summary>
public class ConformanceSuiteTests
{
    private static readonly IReadOnlyList<ConformanceCase> Cases = ConformanceSuite.Cases(ConformanceScale.Default);

    [Theory]
    [InlineData(ConformanceScale.Tiny)]
    [InlineData(ConformanceScale.Default)]
    public void Reference_agrees_with_itself(ConformanceScale scale)
    {
        using ReferenceDevice device = new();
        Assert.Equal([], ConformanceSuite.Cases(scale).Select(c => c.Run(device)).Where(result => !result.Ok)
            .Select(result => result.ToString()));
    }

    [Theory]
    [InlineData(ConformanceScale.Tiny)]
    [InlineData(ConformanceScale.Default)]
    [InlineData(ConformanceScale.Large)]
    public void Every_op_of_a_device_has_cases_with_names_of_their_own(ConformanceScale scale)
    {
        IReadOnlyList<ConformanceCase> cases = ConformanceSuite.Cases(scale);
        Assert.Equal([], cases.GroupBy(c => c.ToString()).Where(sameName => sameName.Count() > 1).Select(sameName => sameName.Key));
        string[] ops =
            [.. typeof(Device).GetMethods().Where(method => method.DeclaringType == typeof(Device) && !method.IsSpecialName)
                .Select(method => method.Name).Distinct()];
        string[] notOps =
            [nameof(Device.CreateMat), nameof(Device.CreateWeight), nameof(Device.CreateCodes),
                nameof(Device.Read), nameof(Device.ReadLengths),
                nameof(Device.Synchronize), nameof(Device.ForEach), nameof(Device.Dispose)];
        Assert.Equal(ops.Except(notOps).Order(), cases.Select(c => c.Op).Distinct().Order());
    }

    [Fact]
    public void A_case_of_the_tiny_scale_takes_less_than_300000_multiply_adds() =>
        // The largest fill whole tiles of tensor-core kernels; an emulator takes well under a second for them.
        Assert.All(ConformanceSuite.Cases(ConformanceScale.Tiny), c => Assert.InRange(c.Work, 0, 299_999));

    [Fact]
    public void The_inputs_are_the_same_on_every_machine()
    {
        // The values that SplitMix64 is published with, for the seed 1234567.
        Generator random = new(1234567);
        Assert.Equal(new ulong[] { 6457827717110365317, 3203168211198807973, 9817491932198370423 },
            new[] { random.Next(), random.Next(), random.Next() });
    }

    public static TheoryData<string, Fault> Faults()
    {
        TheoryData<string, Fault> data = [];
        foreach (string op in Cases.Select(c => c.Op).Distinct().Where(op => op != nameof(Device.Allocate)))
        {
            foreach (Fault fault in Enum.GetValues<Fault>())
            {
                // Lists have neither a place behind them nor old contents to add to.
                bool lists = op is nameof(Device.TopK) or nameof(Device.SaeEncode) or nameof(Device.SaeEncodeNear) or
                    nameof(Device.Transpose) or nameof(Device.SparseDot);
                if (!lists || fault is not (Fault.WritesPastTheEnd or Fault.Accumulates))
                    data.Add(op, fault);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public void A_device_with_a_fault_fails(string op, Fault fault)
    {
        using FaultyDevice device = new(op, fault);
        Assert.Contains(Cases.Where(c => c.Op == op), c => !c.Run(device).Ok);
    }

    public static TheoryData<string, string> Mutations()
    {
        TheoryData<string, string> data = [];
        foreach ((string op, string mutation) in MutantDevice.All)
            data.Add(op, mutation);
        return data;
    }

    [Theory]
    [MemberData(nameof(Mutations))]
    public void A_device_with_a_mistake_in_an_equation_fails(string op, string mutation)
    {
        using MutantDevice device = new(mutation);
        Assert.Contains(Cases.Where(c => c.Op == op), c => !c.Run(device).Ok);
    }

    /// <summary>So that it was the fault or the mistake that failed, not the device that carries it.</summary>
    [Fact]
    public void The_devices_that_carry_faults_and_mistakes_pass_without_them()
    {
        foreach (Device device in (Device[])[new FaultyDevice("no op", Fault.OneValueOff), new MutantDevice("no mistake")])
            Assert.Equal([], Cases.Select(c => c.Run(device)).Where(result => !result.Ok).Select(result => result.ToString()));
    }

    [Fact]
    public void A_device_that_throws_has_failed_the_case()
    {
        using ThrowingDevice device = new();
        ConformanceResult result = Cases.First(c => c.Op == nameof(Device.Linear)).Run(device);
        Assert.False(result.Ok);
        Assert.Equal("NotSupportedException: no such kernel", result.Message);
    }

    [Fact]
    public void A_cancelled_run_is_cancelled()
    {
        using ReferenceDevice device = new();
        Assert.Throws<OperationCanceledException>(() => Cases[0].Run(device, new CancellationToken(canceled: true)));
    }

    private sealed class ThrowingDevice() : ForwardingDevice(new ReferenceDevice())
    {
        protected override void LinearCore(Mat x, Weight weight, Mat destination) => throw new NotSupportedException("no such kernel");
    }
}
