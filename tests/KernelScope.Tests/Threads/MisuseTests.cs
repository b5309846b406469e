using System.Globalization;

namespace KernelScope.Tests.Threads;

/// <summary>Many threads over one model and SAE, and disposal in every order while they run. Each case in a process of its own: these killed and hung processes.</summary>
public class MisuseTests
{
    private const int Generations = 24;

    public static TheoryData<string, int> Disposals()
    {
        var data = new TheoryData<string, int>();
        foreach (string target in Misuse.Targets)
        {
            data.Add(target, 1);
            data.Add(target, 2);
        }

        return data;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public Task Generations_of_several_threads_give_what_each_gives_alone(int workers) => Together(workers, 3);

    [Theory]
    [Trait("Category", "Slow")]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public Task Generations_of_several_threads_give_what_each_gives_alone_in_twenty_runs(int workers) => Together(workers, 20);

    [Theory]
    [MemberData(nameof(Disposals))]
    public Task What_is_disposed_under_a_generation_ends_it_with_an_exception(string target, int workers) => Disposed(target, workers, 10);

    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(Disposals))]
    public Task What_is_disposed_under_a_generation_ends_it_with_an_exception_two_hundred_times(string target, int workers) =>
        Disposed(target, workers, 200);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public Task Host_work_that_calls_its_device_is_refused(int workers) => Child.MustPass("host-work", Text(workers), Text(0), Text(0));

    [Fact]
    public Task Devices_that_nobody_disposed_do_not_keep_their_threads() => Child.MustPass("forgotten");

    private static Task Together(int workers, int runs) => Child.MustPass("together", Text(workers), Text(Generations), Text(runs));

    private static Task Disposed(string target, int workers, int runs) =>
        Child.MustPass("disposed", Text(workers), Text(0), Text(runs), target);

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
